"""The table of what each case costs the fake device: ceilings for the tests, and a page for people. write_table.py
makes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fake_cuda.device import Count
from fake_cuda.steps import PARTS

CEILINGS = Path(__file__).with_name("ceilings.json")
PAGE = Path(__file__).parents[2] / "docs" / "cuda.md"
BEGIN, END = (
    "<!-- fake cuda: begin. Written by python tests/fake_cuda/write_table.py --write -->",
    "<!-- fake cuda: end -->",
)
TOLERANCE = 1.1  # another seed's draws, another order of branches
OTHER_TORCH = 1.5  # which may need more operations for the same: what doubles is still seen
_FEW = 5  # launches that may come on top of any, so that a part of 3 may have one more

Costs = dict[str, tuple[int, float]]  # of a part: launches and MB


def to_costs(counts: Mapping[str, Count]) -> Costs:
    return {part: (count.launches, round(count.bytes / 1e6, 1)) for part, count in counts.items()}


def read_ceilings() -> dict[str, Any]:
    """{"torch": version, "waits": {case: number}, "cases": {case: costs}}"""
    return json.loads(CEILINGS.read_text())


def exceeded(found: Costs, ceilings: Mapping[str, Any], same_torch: bool) -> list[str]:
    """A line for each part that costs more than its ceiling."""
    factor = TOLERANCE if same_torch else OTHER_TORCH
    lines = list[str]()
    for part, (launches, megabytes) in found.items():
        most_launches, most_megabytes = ceilings[part]
        if launches > max(most_launches * factor, most_launches + _FEW):
            lines.append(f"{part}: {launches} launches, where {most_launches} are on record")
        if megabytes > max(most_megabytes * factor, most_megabytes + 1):
            lines.append(f"{part}: {megabytes:.0f} MB moved, where {most_megabytes:.0f} are on record")
    return lines


def lowered(found: Costs, ceilings: Mapping[str, Any]) -> list[str]:
    """A line for each part that costs less than nine tenths of its ceiling, which could then be lower."""
    return [
        f"{part}: {launches} launches and {megabytes:.0f} MB, where {ceilings[part][0]} and {ceilings[part][1]:.0f} are"
        " on record"
        for part, (launches, megabytes) in found.items()
        if launches < ceilings[part][0] * 0.9 - _FEW or megabytes < ceilings[part][1] * 0.9 - 1
    ]


def same_torch(ceilings: Mapping[str, Any]) -> bool:
    return ceilings["torch"] == torch_version()


def torch_version() -> str:
    """2.15, of 2.15.0+cu132."""
    return ".".join(torch.__version__.split(".")[:2])


def render(ceilings: Mapping[str, Any]) -> str:
    """The table of the page."""
    head = ["recipe", "technique and settings", *PARTS, "waits"]
    rows = list[list[str]]()
    for text, costs in ceilings["cases"].items():
        recipe, rest = text.split(" ", 1)
        waits = ceilings["waits"].get(text, 0)
        cells = [_cell(*costs[part]) for part in PARTS]
        rows.append([recipe, _shorten(rest), *cells, str(waits)])
    for above, row in zip(reversed(rows[:-1]), reversed(rows[1:]), strict=True):
        if row[0] == above[0]:
            row[0] = ""
    lines = [head, ["---", "---", *["---:"] * (len(PARTS) + 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(launches: int, megabytes: float) -> str:
    return f"{launches:,} · {megabytes / 1000:.2f}" if launches else "–"


def _shorten(words: str) -> str:
    """Settings without the package's own prefix, in a form that Markdown leaves alone."""
    technique, _, settings = words.replace("paribus.", "").partition(" ")
    return f"{technique} `{settings}`" if settings else technique


def with_table(page: str, ceilings: Mapping[str, Any]) -> str:
    """The page with this table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{render(ceilings)}\n\n{END}{after}"


def to_text(made: Mapping[str, Any]) -> str:
    """ceilings.json, with a line for each case."""
    parts = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in made["cases"].items()]
    head = f'{{"torch": {json.dumps(made["torch"])},\n"waits": {json.dumps(made["waits"], indent=1)},\n"cases": {{\n'
    return head + ",\n".join(parts) + "\n}}\n"
