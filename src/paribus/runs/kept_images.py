"""Pictures that evaluators give among their details (core/evaluation.py), as files beside the record."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paribus.core import runfolder
from paribus.core.runfolder import SAMPLES, name_picture

Details = Mapping[str, Mapping[str, Any]]


def keep_images(folder: Path, details: Details, name_of: Callable[[str], str]) -> dict[str, dict[str, Any]]:
    """The details with {"image": {"file": path in the folder, ...}} where they had {"image": {"png": base64, ...}},
    and the files written. name_of: an evaluator, with the detail's name where it has several pictures -> the file."""
    kept: dict[str, dict[str, Any]] = {}
    for evaluator, found in details.items():
        pictures = [name for name, node in found.items() if "png" in node.get("image", {})]
        kept[evaluator] = dict(found)
        for name in pictures:
            content = dict(found[name]["image"])
            file = name_of(evaluator if len(pictures) == 1 else f"{evaluator}_{name}")
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            runfolder.write_atomically(folder / file, base64.b64decode(content.pop("png")))
            kept[evaluator][name] = {"image": {"file": file, **content}}
    return kept


def keep_of_step(folder: Path, step: int, details: Details) -> dict[str, dict[str, Any]]:
    """The same for an evaluation of a run: samples/step_00001234.png."""
    return keep_images(folder, details, lambda name: f"{SAMPLES}/{name_picture(step, name)}")
