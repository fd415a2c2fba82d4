"""study.yaml: the question, what is compared and how it will be judged, all fixed before any result is known.

Checked as strictly as a run's config: each mistake is one line that names the file and the key. What only
composing can show (an overlay that does not fit, a metric that nothing measures) is found by `paribus study plan`.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from paribus.core.build import schema
from paribus.study.tuning.space import TuneSpec

SPEC, PLAN, RESULTS = "study.yaml", "plan.jsonl", "results.jsonl"
TUNE = "tune"  # the stage in which settings are chosen


MetricName = Annotated[str, Field(pattern=r"^[\w.-]+/[\w./-]+$")]
Text = Annotated[str, Field(min_length=1)]


@schema
class ComparisonSpec:
    """arm is judged against the other one, both by name. what: that change in words, for the table of results.

    at: where it stands along the study's `along`, e.g. after how many epochs. line: which of several lines there it is
    a point of, in a word or two.
    """

    arm: str
    against: str
    what: str = ""
    at: float | None = None
    line: str = ""


@schema
class Along:
    """name: what comparisons are drawn along, with its unit: epochs, training images, weight decay. scale: of the axis;
    log is for values above 0, even sets them side by side, whatever lies between them, as 0, 0.005 and 0.5."""

    name: Text
    scale: Literal["linear", "log", "even"] = "linear"


@schema
class SecondaryMetric:
    """A metric that is estimated beside the one that decides.

    higher_is_better: null where neither direction is good; then a difference is called higher or lower.
    smallest_effect: in the metric's unit; null: none is stated, and nothing can be called equivalent. unit: points for
    a fraction shown in per cent, its differences in points; none for numbers as they are; by default points of
    accuracies alone.
    """

    metric: MetricName
    higher_is_better: bool | None
    smallest_effect: Annotated[float, Field(gt=0)] | None = None
    unit: Literal["points", "none"]


@schema
class PaperResult:
    """What a paper says: the difference arm - against, in the metric's unit, and where it is published. metric: the one
    of `also` that it is about, "" for the study's own."""

    arm: str
    against: str
    difference: float
    source: Text
    metric: str = ""


@schema
class Tuned:
    """Settings that were tuned: with which budget, the same for every arm, in words."""

    tuned: Text


@schema
class Untuned:
    """Settings that are neither tuned nor the paper's: where they come from, in words."""

    untuned: Text


@schema
class SequentialSeeds:
    """seeds: {first, more, most} of study.yaml: a study that looks at fixed numbers of seeds and stops where it is
    decided (stats/sequential.py).

    first: seeds of each arm at the first look. more: added from look to look. most: of the last one. start: the first
    seed's number. spending: how the error is spread over the looks, late or evenly.
    """

    first: Annotated[int, Field(ge=2)]
    more: Annotated[int, Field(ge=1)]
    most: Annotated[int, Field(ge=2)]
    start: Annotated[int, Field(ge=0, lt=2**62)] = 0
    spending: Literal["obrien-fleming", "pocock"] = "obrien-fleming"


@schema
class StudySpec:
    """question: in words. setting: data, size, network and length in a few words, for tables. recipe: overrides that
    all arms share; arms: name -> further ones, in the order of display.

    comparisons: by default every other arm against the first. along: what those that say `at` are drawn along, as a
    curve beside the forest plot; it changes no verdict. factors: name -> arms in which it is on; then the arms
    are all combinations. seeds: a list, or n for 0 to n - 1, or {first, more, most}: then `sequential` has that, and
    seeds are all of them up to the last look. metric: split/name, e.g. val/acc1. smallest_effect: the
    smallest difference that would matter, in the metric's unit: of an accuracy a fraction below 0.05, or in points,
    0.5pt. also: metrics that are estimated beside it and decide nothing. targets: values of the metric; the time to
    reach them is compared. settings: paper, or tuned: the budget, or untuned: where they come from. limits: what this
    setting cannot show, in a sentence. threads: of each cell. retries: of a cell that fails. config_dir: a folder of
    your own configs, technique/mine.yaml and so on, relative to the study's folder. tune: settings that are searched,
    with equal budgets, before the study; then `settings` is worded from it.
    """

    question: Text
    setting: str = ""
    recipe: tuple[str, ...]
    arms: dict[str, tuple[str, ...]]
    comparisons: tuple[ComparisonSpec, ...]
    factors: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...]
    sequential: SequentialSeeds | None = None
    metric: MetricName
    higher_is_better: bool = True
    smallest_effect: Annotated[float, Field(ge=0)]  # 0, none stated, only of a lone arm (load.py)
    also: tuple[SecondaryMetric, ...] = ()
    targets: tuple[float, ...] = ()
    along: Along | None = None
    settings: Literal["paper"] | Tuned | Untuned
    paper: tuple[PaperResult, ...] = ()
    limits: str = ""
    threads: Annotated[int, Field(ge=1)] = 1
    retries: Annotated[int, Field(ge=0)] = 1
    config_dir: Text | None = None
    tune: TuneSpec | None = None


@dataclass(frozen=True)
class Study:
    """A study's folder, with what its study.yaml says.

    config_dir: the folder of the user's own configs, relative to the study's, so that a plan says it for every machine.
    stage: the name of a folder in it with a plan and results of their own, for runs beside the study's: tuning, the
    noise floor; "" for the study itself.
    """

    folder: Path
    spec: StudySpec
    config_dir: str | None = None
    stage: str = ""

    @property
    def name(self) -> str:
        folder = self.folder.absolute().name
        return f"{folder}-{self.stage}" if self.stage else folder

    @property
    def plan_path(self) -> Path:
        return self.folder / self.stage / PLAN

    @property
    def results_path(self) -> Path:
        return self.folder / self.stage / RESULTS

    @property
    def config_folder(self) -> Path | None:
        """config_dir as an absolute path."""
        return None if self.config_dir is None else find_config_folder(self.folder, self.config_dir)


def find_config_folder(study: Path, config_dir: str) -> Path:
    """The absolute path of a folder of configs that is given relative to a study's folder."""
    return Path(os.path.abspath(study / config_dir))


def parse_key(override: str) -> str:
    """The key of a Hydra override: optimizer.lr of ++optimizer.lr=0.1."""
    return override.lstrip("+~").partition("=")[0].strip()


def merge_overrides(recipe: Iterable[str], arm: Iterable[str]) -> tuple[str, ...]:
    """The overrides of an arm. One that sets the same key replaces the recipe's: Hydra refuses a group that is chosen
    twice."""
    return tuple({parse_key(override): override for override in (*recipe, *arm)}.values())
