"""paribus: the effect of a vision training technique, all else being equal.

The library's names are loaded when first used, so that `import paribus` stays instant.
"""

import importlib
from typing import TYPE_CHECKING, Any

from paribus.core.version import __version__

if TYPE_CHECKING:
    from paribus.interop.timm_models import register_with_timm
    from paribus.interop.timm_weights import load_timm_weights, to_timm_state_dict
    from paribus.models.exported import load
    from paribus.runs.from_python import train
    from paribus.runs.run import Run
    from paribus.runs.run import find_runs as runs
    from paribus.study.results import open_study as study
    from paribus.techniques.adamp import SGDP, AdamP
    from paribus.techniques.cutmix import CutMix, cutmix
    from paribus.techniques.cutout import Cutout, cutout
    from paribus.techniques.mixup import Mixup, mixup
    from paribus.techniques.pit import pit
    from paribus.techniques.rexnet import rexnet

_HOMES = {  # name -> the module that defines it
    "AdamP": "paribus.techniques.adamp",
    "CutMix": "paribus.techniques.cutmix",
    "Cutout": "paribus.techniques.cutout",
    "Mixup": "paribus.techniques.mixup",
    "Run": "paribus.runs.run",
    "SGDP": "paribus.techniques.adamp",
    "cutmix": "paribus.techniques.cutmix",
    "cutout": "paribus.techniques.cutout",
    "load": "paribus.models.exported",
    "load_timm_weights": "paribus.interop.timm_weights",
    "mixup": "paribus.techniques.mixup",
    "pit": "paribus.techniques.pit",
    "register_with_timm": "paribus.interop.timm_models",
    "rexnet": "paribus.techniques.rexnet",
    "to_timm_state_dict": "paribus.interop.timm_weights",
    "train": "paribus.runs.from_python",
}
_PACKAGES = ("runs", "study")  # which are called themselves: paribus/runs/__init__.py
__all__ = [
    "SGDP",
    "AdamP",
    "CutMix",
    "Cutout",
    "Mixup",
    "Run",
    "__version__",
    "cutmix",
    "cutout",
    "load",
    "load_timm_weights",
    "mixup",
    "pit",
    "register_with_timm",
    "rexnet",
    "runs",
    "study",
    "to_timm_state_dict",
    "train",
]


if not TYPE_CHECKING:  # a type checker that saw it would accept any name

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        if name in _PACKAGES:
            return importlib.import_module(f"paribus.{name}")
        raise AttributeError(f"module 'paribus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
