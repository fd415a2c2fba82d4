"""docs/pictures/architecture.svg: the packages of paribus, each importing only what stands below it.

Order and neighbours are those of the import-linter contract in pyproject.toml, so the picture cannot say otherwise than
what `lint-imports` holds. What each package is for stands here, and one that has no line is an error.
"""

import tomllib
from pathlib import Path

from paribus.study.report.svg import ARM_STYLE, STYLE, build_svg, draw_bold, draw_text
from pictures.drawing import ARM, FAINT, INK, MARGIN, draw_arrow, draw_box

ROOT = Path(__file__).parents[2]
FILE = "architecture.svg"
ABOUT = {
    "cli": "the commands",
    "conformance": "what every technique must hold, yours too",
    "doctor": "what a machine has and lacks",
    "bench": "speed beside public implementations",
    "runs": "one run: train, resume, verify, evaluate, predict, export",
    "recipe": "from configs to a checked recipe with an id",
    "interop": "timm, ONNX and weights of files",
    "study": "arms × seeds, their rows, statistics, reports; no torch",
    "engine": "the loop, checkpoints, processes, receipts",
    "tracking": "events, the terminal's bar, Weights & Biases",
    "evaluators": "accuracy, calibration, attacks, corruptions and more",
    "data": "data sets, loaders, crops and colours",
    "techniques": "one paper, one file",
    "methods": "what one step is; optimizers, schedules, losses",
    "models": "networks and what they cost",
    "core": "shared types, named random streams, errors",
}
_WIDTH, _LINE, _PAD, _GAP, _LEFT, _NAME = 760, 24, 8, 12, 40, 118


def read_layers(pyproject: str) -> list[list[str]]:
    """From the top: the packages of each layer."""
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers" and c["containers"] == ["paribus"])
    return [[name.strip() for name in layer.replace(":", "|").split("|")] for layer in layers]


def draw(pyproject: str) -> str:
    layers = read_layers(pyproject)
    named = {name for layer in layers for name in layer}
    if named != set(ABOUT):
        differ = ", ".join(sorted(named ^ set(ABOUT)))
        raise ValueError(f"architecture.py: ABOUT should have a line for each package and no other; {differ} differ")
    parts, top = list[str](), 4
    for layer in layers:
        height = _LINE * len(layer) + 2 * _PAD
        parts.append(draw_box(_LEFT, top, _WIDTH - _LEFT - 4, height, MARGIN if len(layer) > 1 else "none"))
        for i, name in enumerate(layer):
            y = top + _PAD + _LINE * i + 17
            parts.append(draw_bold(_LEFT + 14, y, name, "start", ARM))
            parts.append(draw_text(_LEFT + 14 + _NAME, y, ABOUT[name], "start", INK))
        top += height + _GAP
    parts.append(draw_arrow(18, 8, 18, top - _GAP - 4))
    parts.append(
        f'<g transform="translate(13 {top / 2:g}) rotate(-90)">{draw_text(0, 0, "imports", "middle", FAINT)}</g>'
    )
    parts.append(
        draw_text(
            _LEFT,
            top + 8,
            "A package imports what stands below it. Those in one box do not import each other.",
            "start",
            FAINT,
        )
    )
    title = "Packages of paribus from the command line down to core; imports run one way, downwards"
    return build_svg(_WIDTH, top + 16, 14, title, parts, f"{STYLE}\n{ARM_STYLE}")


def make() -> dict[str, bytes]:
    return {FILE: draw((ROOT / "pyproject.toml").read_text(encoding="utf-8")).encode()}
