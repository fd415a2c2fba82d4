"""paribus: what a vision training technique is worth, all else being equal.

The library's names are loaded when first used, so that `import paribus` stays instant.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paribus.techniques.cutmix import CutMix as CutMix
    from paribus.techniques.cutmix import cutmix as cutmix
    from paribus.techniques.rexnet import rexnet as rexnet

__version__ = "0.1.0"

_HOMES = {
    "CutMix": "paribus.techniques.cutmix",
    "cutmix": "paribus.techniques.cutmix",
    "rexnet": "paribus.techniques.rexnet",
}
__all__ = ["CutMix", "__version__", "cutmix", "rexnet"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'paribus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
