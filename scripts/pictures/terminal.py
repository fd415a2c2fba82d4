"""docs/pictures/terminal_panel.svg and terminal_bar.svg: a terminal at the start of a run and while it trains.

Both are what rich made of the code's own panel and bar, for `paribus train experiment=quickstart technique=cutmix` on a
CPU, in a terminal of 80 columns. The bar is that of a log entry of this run, after about two thirds of its steps; the
numbers it was drawn from stand in the file, so that a test can draw it again.
"""

import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from html import unescape
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from paribus.engine.stop import StopRequest
from paribus.runs.from_python import compose_run
from paribus.runs.process_state import keep_process_state
from paribus.runs.screen import Screen, build_panel
from paribus.runs.screen_text import RunDescription
from paribus.runs.train import train
from paribus.tracking.console import RunProgress, build_bar

PANEL, BAR = "terminal_panel.svg", "terminal_bar.svg"
WORDS = ("experiment=quickstart", "technique=cutmix")
COLUMNS, AFTER = 80, 440  # AFTER: the step whose log entry the bar shows
_THEME = TerminalTheme(  # of the report's dark page
    (27, 32, 38),
    (225, 229, 234),
    [
        (27, 32, 38),
        (245, 160, 106),
        (92, 207, 169),
        (243, 200, 15),
        (92, 177, 238),
        (191, 96, 159),
        (134, 219, 251),
        (225, 229, 234),
    ],
)
# rich's own template names a font on a server; a picture in a page loads nothing
_TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" role="img" width="760" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font: 15px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class _Described(Exception):
    """Ends a run before its first step."""


@dataclass(frozen=True)
class _KeepingScreen(Screen):
    """Prints nothing and keeps what it was given. ends: leave before the first step."""

    kept: list[RunDescription] = field(default_factory=list)
    ends: bool = False

    def print_start(self, gather: Callable[[], RunDescription]) -> None:
        self.kept.append(gather())
        if self.ends:
            raise _Described

    def print_end(self, *args: Any, **kwargs: Any) -> None:
        pass


def describe() -> RunDescription:
    """What a run of WORDS says at its start, on any machine."""
    return _run(ends=True)[0]


def record() -> tuple[RunDescription, list[dict[str, Any]]]:
    """The same, and the run's log entries to its end."""
    return _run(ends=False)


def _run(ends: bool) -> tuple[RunDescription, list[dict[str, Any]]]:
    state = keep_process_state(["paribus train", *WORDS])
    with tempfile.TemporaryDirectory() as folder, _inside(folder), state:
        config, techniques = compose_run([*WORDS, "tracker=events"])
        screen = _KeepingScreen(quiet=True, ends=ends)
        try:
            train(config, techniques, StopRequest(may_exit=False), screen)
        except _Described:
            return _anywhere(screen.kept[0]), []
        lines = next(Path("runs").glob("*/events.jsonl")).read_text().splitlines()
    return _anywhere(screen.kept[0]), [json.loads(line) for line in lines]


def _anywhere(description: RunDescription) -> RunDescription:
    return replace(description, threads=1)  # as many as a machine has


@contextmanager
def _inside(folder: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def follow(entries: list[dict[str, Any]]) -> tuple[RunProgress, float]:
    """The bar's state at AFTER, and the clock a moment later: seconds of training and evaluation."""
    progress, now = RunProgress.at_start(0, entries[-1]["step"], 0.0), 0.0
    for entry in entries:
        now = entry["values"]["time/train_s"] + entry["values"]["time/eval_s"]
        progress = progress.with_entry(entry["step"], entry["values"], now)
        if entry["step"] >= AFTER:
            break
    return progress, now


def draw_panel(description: RunDescription) -> str:
    prompt = Text.assemble(("$ ", "dim"), f"paribus train {' '.join(WORDS)}")
    return _export([prompt, build_panel(description, COLUMNS)], "panel")


def draw_bar(progress: RunProgress, now: float) -> str:
    numbers = json.dumps({"progress": asdict(progress), "now": now})
    return _export([build_bar(progress, COLUMNS, now)], "bar").replace("<defs>", f"<desc>{numbers}</desc>\n<defs>", 1)


def _export(shown: list[RenderableType], name: str) -> str:
    console = Console(  # as paribus.core.terminal makes it
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor",
        highlight=False, markup=False, emoji=False, legacy_windows=False,
    )  # fmt: skip
    for part in shown:
        console.print(part)
    svg = console.export_svg(title="", theme=_THEME, code_format=_TEMPLATE, unique_id=name)
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def read_text(svg: str) -> list[str]:
    """What stands on the terminal of such a file, line by line, without spaces: those are not all in it."""
    lines: dict[float, str] = {}
    for y, text in re.findall(r'<text class="\w+-r\d+"[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', svg):
        lines[float(y)] = lines.get(float(y), "") + re.sub(r"\s", "", unescape(text))
    return [lines[y] for y in sorted(lines)]


def read_numbers(svg: str) -> tuple[RunProgress, float]:
    """What a file of `draw_bar` was drawn from."""
    found = re.search(r"<desc>(.*)</desc>", svg)
    if found is None:
        raise ValueError(f"{BAR}: has no <desc> with its numbers; python scripts/pictures terminal")
    numbers = json.loads(found[1])
    pairs = {key: tuple(numbers["progress"][key]) for key in ("started", "measured_from", "latest")}
    accuracies = {key: tuple(value) for key, value in numbers["progress"]["accuracies"].items()}
    return RunProgress(**{**numbers["progress"], **pairs, "accuracies": accuracies}), numbers["now"]


def make() -> dict[str, bytes]:
    os.environ["WANDB_MODE"] = "disabled"  # whether you are logged in is nobody's business
    description, entries = record()
    return {PANEL: draw_panel(description).encode(), BAR: draw_bar(*follow(entries)).encode()}
