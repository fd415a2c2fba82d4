"""What a report is asked for: a study's question, or one that a command line puts."""

from collections.abc import Mapping
from dataclasses import dataclass

from paribus.study.spec import Reported, Study, Tuned
from paribus.study.stats import Rule

Pair = tuple[str, str]  # (arm, what it is compared with)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is analysed, whether a study.yaml says it or a command line.

    arms: in the order of display, each with its overrides. pairs: the family of comparisons. margin: 0 if none was
    stated. seeds: the planned ones, of every arm; empty for ad-hoc runs. again: commands that make it once more.
    """

    name: str
    question: str
    arms: Mapping[str, tuple[str, ...]]
    pairs: tuple[Pair, ...]
    metric: str
    higher_is_better: bool = True
    margin: float = 0.0
    seeds: tuple[int, ...] = ()
    factors: Mapping[str, tuple[str, ...]]
    targets: tuple[float, ...] = ()
    settings: str = ""
    paper: tuple[Reported, ...] = ()
    recipe: tuple[str, ...] = ()
    again: tuple[str, ...] = ()

    @property
    def rule(self) -> Rule:
        return Rule(margin=self.margin, higher_is_better=self.higher_is_better)


def asked_by(study: Study) -> Asked:
    """A study's own question. Its commands name the folder from its parent on: not where it lies on this machine."""
    spec, folder = study.spec, study.folder.absolute()
    place = f"{folder.parent.name}/{folder.name}"
    return Asked(
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
        settings=f"tuned: {spec.settings.tuned}" if isinstance(spec.settings, Tuned) else "as in the paper",
        paper=spec.paper,
        recipe=spec.recipe,
        again=(f"paribus study run {place}", f"paribus study report {place}"),
    )
