"""Curves and tables of evaluators, as they stand in evaluation.json and measures.jsonl: their forms, means over seeds.

    {"curve": {"x": [...], "y": [...], "x_label": "…", "y_label": "…"}}          accuracy against a side, a strength
    {"reliability": {"counts": [...], "accuracy": [...], "confidence": [...]}}   a value for each bin
    {"matrix": {"rows": [[...], ...], "labels": [...]}}                          labels may be left out
    {"versions": {"Pillow": "…"}}                                                of libraries that had a part in it
    {"image": {"png": "…", "caption": "…"}}                                      in base64; in a run folder its file
    {"text": {"text": "…"}}                                                      what the evaluator's numbers are of

An evaluator gives name -> one of them (core/evaluation.py, `HasDetails`). null is a value that there is none of.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from paribus.core.errors import ConfigError
from paribus.study.analysis.curves import Band, Curves, compute_bands

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """x: in ascending order."""

    x: Numbers
    y: Numbers
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Reliability:
    """By bin of the highest probability: how many samples, their accuracy (0 to 1), and their mean probability."""

    counts: Numbers
    accuracy: Numbers
    confidence: Numbers


@dataclass(frozen=True)
class Matrix:
    rows: tuple[Numbers, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Versions:
    """By library; nothing is drawn of it."""

    versions: Mapping[str, str]


@dataclass(frozen=True)
class Image:
    """A PNG in base64, or the name of its file. Reports show those in samples/ of a study."""

    content: str
    caption: str


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Panel:
    """What one figure shows. key: evaluator and name. bands: arm -> mean and band over its seeds. diagonal: whether
    equal x and y are what would be right."""

    key: str
    title: str
    x_label: str
    y_label: str
    bands: Mapping[str, Band]
    diagonal: bool = False


def parse_detail(node: Any, where: str) -> Curve | Reliability | Matrix | Versions | Image | Text:
    """Raises ConfigError for anything that has none of the forms."""
    if not isinstance(node, Mapping) or len(node) != 1 or next(iter(node)) not in _PARSERS:
        found = ", ".join(map(str, node)) if isinstance(node, Mapping) else repr(node)[:60]
        raise ConfigError(f"{where}: found {found or 'nothing'}; should be one of {', '.join(_PARSERS)}")
    ((form, content),) = node.items()
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}.{form}: found {repr(content)[:60]}; should be a mapping")
    return _PARSERS[form](content, f"{where}.{form}")


def _parse_curve(node: Mapping[str, Any], where: str) -> Curve:
    x, y = (_numbers(node, key, where) for key in ("x", "y"))
    _check_lengths({"x": x, "y": y}, where)
    if any(not b > a for a, b in pairwise(x)):
        raise ConfigError(f"{where}.x: found {list(x)[:8]}; should be ascending")
    return Curve(x, y, str(node.get("x_label", "")), str(node.get("y_label", "")))


def _parse_reliability(node: Mapping[str, Any], where: str) -> Reliability:
    found = {key: _numbers(node, key, where) for key in ("counts", "accuracy", "confidence")}
    _check_lengths(found, where)
    return Reliability(**found)


def _parse_matrix(node: Mapping[str, Any], where: str) -> Matrix:
    rows = node.get("rows")
    if not isinstance(rows, list | tuple):
        raise ConfigError(f"{where}.rows: found {repr(rows)[:60]}; should be a list of rows")
    numbers = tuple(_numbers({str(i): row}, str(i), f"{where}.rows") for i, row in enumerate(rows))
    if len({len(row) for row in numbers}) > 1:
        raise ConfigError(f"{where}.rows: found rows of different lengths")
    return Matrix(numbers, tuple(map(str, node.get("labels") or ())))


def _parse_versions(node: Mapping[str, Any], where: str) -> Versions:
    return Versions({str(name): str(version) for name, version in node.items()})


def _parse_image(node: Mapping[str, Any], where: str) -> Image:
    content = node.get("png", node.get("file"))
    if not isinstance(content, str):
        raise ConfigError(f"{where}: found {', '.join(map(str, node)) or 'nothing'}; should have png or file, a string")
    return Image(content, str(node.get("caption", "")))


def _parse_text(node: Mapping[str, Any], where: str) -> Text:
    if not isinstance(node.get("text"), str):
        raise ConfigError(f"{where}.text: found {repr(node.get('text'))[:60]}; should be a string")
    return Text(node["text"])


_PARSERS = {
    "curve": _parse_curve,
    "reliability": _parse_reliability,
    "matrix": _parse_matrix,
    "versions": _parse_versions,
    "image": _parse_image,
    "text": _parse_text,
}


def _numbers(node: Mapping[str, Any], key: str, where: str) -> Numbers:
    values = node.get(key)
    if not isinstance(values, list | tuple):
        raise ConfigError(f"{where}.{key}: found {repr(values)[:60]}; should be a list of numbers")
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"{where}.{key}: found {value!r}; should be a number, or null where there is none")
    return tuple(math.nan if value is None else float(value) for value in values)


def _check_lengths(found: Mapping[str, Numbers], where: str) -> None:
    if len({len(values) for values in found.values()}) > 1:
        lengths = ", ".join(f"{len(values)} {key}" for key, values in found.items())
        raise ConfigError(f"{where}: found {lengths}; should be as many of each")


def build_panels(arms: Mapping[str, Mapping[int, Mapping[str, Mapping[str, Any]]]]) -> tuple[Panel, ...]:
    """A panel for each curve and reliability diagram. arms: arm -> seed -> evaluator -> name -> detail. What has no
    known form, matrices and versions have none; `paribus study measure` says so of the former when it records it."""
    parsed: dict[str, dict[str, dict[int, Curve | Reliability]]] = {}
    for arm, seeds in arms.items():
        for seed, evaluators in seeds.items():
            for evaluator, found in evaluators.items():
                for name, node in found.items():
                    one = _parse_or_none(node)
                    if one is not None:
                        key = evaluator if name == evaluator else f"{evaluator}: {name}"
                        parsed.setdefault(key, {}).setdefault(arm, {})[seed] = one
    panels = [_build_panel(key, {arm: parsed[key][arm] for arm in arms if arm in parsed[key]}) for key in parsed]
    return tuple(panel for panel in panels if any(band.steps for band in panel.bands.values()))


def _parse_or_none(node: Any) -> Curve | Reliability | None:
    try:
        found = parse_detail(node, "")
    except ConfigError:
        return None
    return found if isinstance(found, Curve | Reliability) else None


def _build_panel(key: str, arms: Mapping[str, Mapping[int, Curve | Reliability]]) -> Panel:
    first = next(iter(next(iter(arms.values())).values()))
    if isinstance(first, Curve):
        curves: dict[str, Curves] = {
            arm: {s: {key: list(zip(c.x, c.y, strict=True))} for s, c in seeds.items() if isinstance(c, Curve)}
            for arm, seeds in arms.items()
        }
        return Panel(key, key.replace("_", " "), first.x_label, first.y_label, compute_bands(curves, key))
    bands = {
        arm: _band_of_bins([r for r in seeds.values() if isinstance(r, Reliability)]) for arm, seeds in arms.items()
    }
    return Panel(key, key.replace("_", " "), "confidence", "accuracy", bands, diagonal=True)


def _band_of_bins(runs: Sequence[Reliability]) -> Band:
    """Over the bins that every run has samples in: mean accuracy ± one standard deviation at the mean confidence."""
    bins = min((len(run.counts) for run in runs), default=0)
    filled = [i for i in range(bins) if all(run.counts[i] > 0 for run in runs)]
    values: Curves = {k: {"": [[i, run.accuracy[i]] for i in filled]} for k, run in enumerate(runs)}
    places: Curves = {k: {"": [[i, run.confidence[i]] for i in filled]} for k, run in enumerate(runs)}
    found, at = (compute_bands({"": curves}, "").get("") for curves in (values, places))
    if found is None or at is None:
        return Band(len(runs), (), (), (), ())
    middle = dict(zip(at.steps, at.mean, strict=True))
    return Band(found.n, tuple(middle[step] for step in found.steps), found.mean, found.low, found.high)
