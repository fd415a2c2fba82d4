"""paribus: what a vision training technique is worth, all else being equal.

The library's names are loaded when first used, so that `import paribus` stays instant.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paribus.techniques.adamp import SGDP as SGDP
    from paribus.techniques.adamp import AdamP as AdamP
    from paribus.techniques.cutmix import CutMix as CutMix
    from paribus.techniques.cutmix import cutmix as cutmix
    from paribus.techniques.pit import pit as pit

__version__ = "0.1.0"

_HOMES = {
    "AdamP": "paribus.techniques.adamp",
    "CutMix": "paribus.techniques.cutmix",
    "SGDP": "paribus.techniques.adamp",
    "cutmix": "paribus.techniques.cutmix",
    "pit": "paribus.techniques.pit",
}
__all__ = ["SGDP", "AdamP", "CutMix", "__version__", "cutmix", "pit"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'paribus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
