"""The planned looks of `paribus study run --until-decided`: which cells the next one needs, and making it."""

from collections.abc import Sequence
from dataclasses import dataclass

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_count, format_list
from paribus.study.analysis.analysis import Analysis, analyse, record_interim
from paribus.study.analysis.interim import USABLE, Interims
from paribus.study.analysis.question import ArmPair, build_analysis_spec
from paribus.study.frozen import freeze_spec
from paribus.study.looks import add_look, read_looks
from paribus.study.plan import Cell, Plan
from paribus.study.rows import Row, read_rows
from paribus.study.spec import SPEC, Study


@dataclass(frozen=True)
class NextLook:
    """number: of the look, counted from 1, of `looks`. seeds: of each arm. pairs: the comparisons that are still open,
    () after the last look; arms: those of them. cells: what to run for it, () where all of it has ended."""

    number: int
    looks: int
    seeds: tuple[int, ...]
    pairs: tuple[ArmPair, ...]
    arms: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def over(self) -> bool:
        return not self.pairs

    def __str__(self) -> str:
        return (
            f"look {self.number} of {self.looks}: {format_count(len(self.seeds), 'seed')} of {format_list(self.arms)}"
        )


def find_next_look(study: Study, plan: Plan) -> NextLook:
    """By the rows on record. Raises ConfigError where study.yaml plans no looks.

    A failed cell is run again until its look is on record, which has then counted it as failed.
    """
    if study.spec.sequential is None:
        raise ConfigError(
            f"--until-decided: {study.folder / SPEC} fixes the number of seeds; plan looks before the first run with "
            "seeds: {first: 5, more: 5, most: 30}"
        )
    planned = freeze_spec(study.spec).looks
    made = [look.interim for look in read_looks(study) if look.frozen.looks == planned]  # not those of an earlier plan
    recorded = max((one.number for one in made if one is not None), default=0)
    analysis, interims = _analyse(study, read_rows(study.results_path))
    counted = interims.looks[recorded - 1] if recorded else 0
    settled = set(study.spec.seeds[:counted])
    usable = [row for row in analysis.rows if row.seed in settled or _has_value(study, row)]
    if len(usable) < len(analysis.rows):
        _, interims = _analyse(study, usable)
    if interims.over:
        return NextLook(len(interims.made), len(interims.looks), interims.made[-1].seeds, (), (), ())
    number = len(interims.made) + 1
    seeds = study.spec.seeds[: interims.looks[number - 1]]
    pairs = analysis.spec.pairs
    if interims.made:
        pairs = tuple(pair for pair, d in zip(pairs, interims.decisions, strict=True) if not d.closed)
    arms = tuple(arm for arm in study.spec.arms if any(arm in pair for pair in pairs))
    ended = {row.cell for row in usable}
    cells = (c for c in plan.cells if c.arm in arms and c.seed in seeds and c.name not in ended)
    return NextLook(number, len(interims.looks), seeds, pairs, arms, tuple(cells))


def make_look(study: Study, look: NextLook) -> str:
    """Put a look on record whose cells were run. Returns why it cannot be made, "" if it was."""
    rows = read_rows(study.results_path)
    ended = {row.cell for row in rows}
    if gone := [cell for arm in look.arms for s in look.seeds if (cell := f"{arm}/s{s}") not in ended]:
        return f"look {look.number} waits for {format_list(gone)}; mend what fails, and run the same command again"
    done = {row.cell for row in rows if _has_value(study, row)}
    for arm, against in look.pairs:
        both = sum(f"{arm}/s{s}" in done and f"{against}/s{s}" in done for s in look.seeds)
        if both < USABLE:
            return (
                f"look {look.number} has {both} usable seeds of {arm} against {against}, two are needed; mend what "
                "fails, and run the same command again"
            )
    analysis, _ = _analyse(study, rows)
    add_look(study, rows, record_interim(analysis))
    return ""


def _analyse(study: Study, rows: Sequence[Row]) -> tuple[Analysis, Interims]:
    analysis = analyse(build_analysis_spec(study), rows)
    assert analysis.interims is not None
    return analysis, analysis.interims


def _has_value(study: Study, row: Row) -> bool:
    return row.state == "done" and study.spec.metric in row.metrics
