"""The question a report answers: a study's, or one from the command line."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from paribus.study.analysis.tuning import TuningAnalysis, analyse_tuning
from paribus.study.spec import Along, PaperResult, SecondaryMetric, Study, StudySpec, Tuned, Untuned
from paribus.study.stats import Rule, SequentialPlan
from paribus.study.tuned import apply_chosen, find_chosen

ArmPair = tuple[str, str]  # (arm, what it is compared with)


@dataclass(frozen=True, kw_only=True)
class AnalysisSpec:
    """What is analysed, as specified by a study.yaml or a command line.

    arms: in the order of display, each with its overrides. pairs: the family of comparisons. margin: 0 if none was
    stated. seeds: the planned ones, of every arm; empty for ad-hoc runs. setting: data and network in a few words.
    words: what a comparison changes, where its author says so. along: what comparisons are drawn along; places: the
    line and the place on it of those that are. limits: what the setting cannot show. again: commands
    that reproduce it. also: secondary metrics, a family of their own. sequential: the looks at which the study decides,
    None where the number of seeds is fixed. tuning: how the settings were chosen.
    """

    name: str
    question: str
    arms: Mapping[str, tuple[str, ...]]
    pairs: tuple[ArmPair, ...]
    metric: str
    higher_is_better: bool = True
    margin: float = 0.0
    seeds: tuple[int, ...] = ()
    factors: Mapping[str, tuple[str, ...]]
    targets: tuple[float, ...] = ()
    settings: str = ""
    paper: tuple[PaperResult, ...] = ()
    recipe: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    setting: str = ""
    limits: str = ""
    words: Mapping[ArmPair, str] = field(default_factory=dict)
    along: Along | None = None
    places: Mapping[ArmPair, tuple[str, float]] = field(default_factory=dict)
    also: tuple[SecondaryMetric, ...] = ()
    sequential: SequentialPlan | None = None
    tuning: TuningAnalysis | None = None

    @property
    def baseline(self) -> str:
        """The arm that every other one is compared with; "" where there are several."""
        against = {baseline for _, baseline in self.pairs}
        return against.pop() if len(against) == 1 else ""

    def label_comparison(self, arm: str, baseline: str) -> str:
        """A comparison in a list of them: the arm alone where all have one baseline, which the header then names."""
        return arm if self.baseline == baseline else f"{arm} – {baseline}"

    @property
    def comparison_header(self) -> str:
        return f"against {self.baseline}" if self.baseline else "comparison"

    @property
    def rule(self) -> Rule:
        return Rule(margin=self.margin, higher_is_better=self.higher_is_better)


def build_analysis_spec(study: Study) -> AnalysisSpec:
    """A study's own question. Its commands name the folder relative to its grandparent, without this machine's path. Of
    a study that tunes, arms have what was chosen. Raises ConfigError if what it was chosen by has changed since."""
    tuning = analyse_tuning(study)
    if (chosen := find_chosen(study)) is not None:
        study = apply_chosen(study, chosen)
    spec, folder = study.spec, study.folder.absolute()
    place = f"{folder.parent.name}/{folder.name}"
    return AnalysisSpec(
        name=study.name,
        question=spec.question,
        arms=spec.arms,
        pairs=tuple((pair.arm, pair.against) for pair in spec.comparisons),
        metric=spec.metric,
        higher_is_better=spec.higher_is_better,
        margin=spec.smallest_effect,
        seeds=spec.seeds,
        factors=spec.factors,
        targets=spec.targets,
        settings=_describe_settings(spec.settings),
        paper=spec.paper,
        recipe=spec.recipe,
        setting=spec.setting,
        limits=spec.limits,
        words={(pair.arm, pair.against): pair.what for pair in spec.comparisons if pair.what},
        along=spec.along,
        places={(pair.arm, pair.against): (pair.line, pair.at) for pair in spec.comparisons if pair.at is not None},
        again=(f"paribus study run {place} --repeat", f"paribus study report {place}"),
        also=spec.also,
        sequential=build_sequential_plan(spec),
        tuning=tuning,
    )


def build_sequential_plan(spec: StudySpec) -> SequentialPlan | None:
    seeds = spec.sequential
    return None if seeds is None else SequentialPlan(seeds.first, seeds.more, seeds.most, seeds.spending)


def find_reference(arms: Iterable[str], pairs: Iterable[ArmPair]) -> str:
    """The arm that most comparisons are made against, the first of several."""
    against = [baseline for _, baseline in pairs]
    return max(arms, key=against.count)


def _describe_settings(settings: Literal["paper"] | Tuned | Untuned) -> str:
    if isinstance(settings, Tuned):
        return f"tuned: {settings.tuned}"
    return f"not tuned: {settings.untuned}" if isinstance(settings, Untuned) else "as in the paper"
