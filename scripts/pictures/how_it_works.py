"""docs/pictures/how_it_works.svg: recipe, run, study, report, and the command of each."""

from paribus.study.report.svg import (
    ARM_STYLE,
    STYLE,
    build_svg,
    draw_bold,
    draw_curve,
    draw_dot,
    draw_line,
    draw_rectangle,
    draw_text,
)
from pictures.drawing import ARM, BASE, FAINT, INK, MARGIN, draw_arrow, draw_box, draw_code, draw_lines

FILE = "how_it_works.svg"
RECIPE = {"data": "digits", "model": "convnet_small", "optimizer": "adamw", "technique": "cutmix"}
STEPS = {  # name -> what it is, line by line; commands
    "recipe": (("configs, checked;", "the hash of what is", "computed is its id"), ("paribus list",)),
    "run": (("repeats bit for bit;", "events, checkpoints", "and receipts"), ("paribus train", "paribus verify")),
    "study": (("arms × seeds, by a", "plan frozen before", "the first run"), ("paribus study run",)),
    "report": (
        ("differences, verdicts", "and their limits;", "a gate for CI"),
        ("paribus study report", "paribus judge"),
    ),
}
_WIDTH, _BOX, _GAP, _HEIGHT, _IN = 760, 170, 26, 230, 12


def draw() -> str:
    parts: list[str] = []
    for i, (name, (lines, commands)) in enumerate(STEPS.items()):
        left = 1 + (_BOX + _GAP) * i
        parts.append(draw_box(left, 1, _BOX, _HEIGHT))
        parts.append(draw_bold(left + _IN, 26, name, "start", INK))
        parts += _PICTURES[name](left + _IN, 40)
        parts += draw_lines(left + _IN, 182, lines, FAINT)
        parts += [draw_code(left + 6, _HEIGHT + 24 + 18 * j, text, ARM, 13) for j, text in enumerate(commands)]
        if i + 1 < len(STEPS):
            parts.append(draw_arrow(left + _BOX + 5, 100, left + _BOX + _GAP - 5, 100))
    title = (
        "How paribus works: a recipe makes a run; a study runs several arms on the same seeds by a plan frozen before; "
        "a report compares them"
    )
    return build_svg(_WIDTH, _HEIGHT + 50, 13, title, parts, f"{STYLE}\n{ARM_STYLE}")


def _draw_recipe(left: float, top: float) -> list[str]:
    """Lines of a config; the technique is what changes."""
    parts = [draw_rectangle(left - 4, left + 150, top + 84, 28, MARGIN)]
    for i, (key, value) in enumerate(RECIPE.items()):
        colour = ARM if key == "technique" else INK
        parts.append(draw_code(left, top + 18 + 28 * i, f"{key}: {value}", colour, 12))
    return parts


def _draw_run(left: float, top: float) -> list[str]:
    """A loss that falls, with checkpoints."""
    xs = [left + 8 + 12.2 * i for i in range(11)]
    ys = [top + 18 + 84 * (1 - 0.72**i) for i in range(11)]
    axes = [
        draw_line(left, left + 140, top + 114, top + 114, FAINT, 1),
        draw_line(left, left, top + 6, top + 114, FAINT, 1),
    ]
    return [*axes, draw_curve(xs, ys, ARM, 2.4), *(draw_dot(xs[i], ys[i], ARM, 4) for i in (2, 6, 10))]


def _draw_study(left: float, top: float) -> list[str]:
    """Two arms, five seeds each; the empty ones are still to run."""
    parts: list[str] = []
    for row, (name, colour) in enumerate((("baseline", BASE), ("cutmix", ARM))):
        y = top + 20 + 54 * row
        parts.append(draw_text(left, y, name, "start", colour))
        for seed in range(5):
            fill = colour if seed < 4 - row else "none"
            parts.append(draw_box(left + 29 * seed, y + 8, 22, 22, fill, colour))
    return parts


def _draw_report(left: float, top: float) -> list[str]:
    """Intervals beside 0, and shaded what is too small to matter."""
    middle = left + 72
    parts = [
        draw_rectangle(middle - 16, middle + 16, top + 6, 108, MARGIN),
        draw_line(middle, middle, top + 6, top + 114, FAINT, 1),
    ]
    for i, (low, high, kind) in enumerate(((-58, -24, "worse"), (-12, 10, "same"), (24, 66, "better"))):
        y = top + 26 + 34 * i
        parts.append(draw_line(middle + low, middle + high, y, y, f"var(--{kind})", 3))
        parts.append(draw_dot(middle + (low + high) / 2, y, f"var(--{kind})", 5))
    return parts


_PICTURES = {"recipe": _draw_recipe, "run": _draw_run, "study": _draw_study, "report": _draw_report}


def make() -> dict[str, bytes]:
    return {FILE: draw().encode()}
