"""What a verdict on a table holds, whatever the table was of: runs, summaries of runs, or models on examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.core.spelling import did_you_mean
from paribus.study.judge.columns import normalise
from paribus.study.judge.metric import Metric
from paribus.study.report.conditions import Gated
from paribus.study.report.wording import SEEDS, Counted, Unit
from paribus.study.stats.estimate import Estimate
from paribus.study.stats.paired import ArmSummary, Comparison
from paribus.study.stats.paired_binary import Outcomes
from paribus.study.stats.verdict import Judgement, Rule, judge

RUNS = Counted("run of each arm", "runs of each arm")
EXAMPLES = Counted("example", "examples")
_BASELINES = {"baseline", "base", "control", "reference", "vanilla", "default"}


@dataclass(frozen=True)
class JudgeOptions:
    """What the command line says. columns: role -> column, where it was named. values: columns of --value. margin: as
    typed. higher: None where the metric's name should tell. failed: whether runs without a number are taken as failed
    ones."""

    columns: Mapping[str, str | None] = field(default_factory=dict)
    values: tuple[str, ...] = ()
    against: str | None = None
    margin: str | None = None
    higher: bool | None = None
    metric: str | None = None
    failed: bool = False


@dataclass(frozen=True)
class Judged:
    """kind: runs, summaries or examples. name: of the file. test: what decides, in words. arms: in the order of the
    file, the baseline first. estimate: as in `Gated`. columns: which was taken for what. missing, failed: runs, in
    words. cautions: how the data limit what is said. outcomes: of examples, one for each comparison."""

    kind: str
    name: str
    metric: Metric
    rule: Rule
    baseline: str
    arms: Mapping[str, ArmSummary]
    comparisons: tuple[Comparison, ...]
    estimate: Callable[[float, float], Sequence[Estimate]]
    test: str
    columns: str
    counted: Counted = SEEDS
    missing: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    outcomes: tuple[Outcomes, ...] = ()

    @property
    def unit(self) -> Unit:
        sds = (*(arm.sd for arm in self.arms.values()), *(c.estimate.sd for c in self.comparisons))
        return self.metric.choose_unit([self.rule.margin, *(sds if self.kind != "examples" else ())])

    def gate(self) -> Gated:
        return Gated(
            comparisons=self.comparisons,
            estimate=self.estimate,
            higher_is_better=bool(self.rule.higher_is_better),  # judge refuses a metric without a direction
            margin=self.rule.margin,
            unit=self.unit,
            gone=(*self.missing, *(f"{cell} failed" for cell in self.failed)),
            done=sum(arm.n for arm in self.arms.values()),
            counted=self.counted,
        )


def choose_baseline(arms: Sequence[str], against: str | None) -> tuple[str, str]:
    """The arm that the others are compared with, and how it was chosen. Raises ConfigError where nothing tells."""
    known = format_list(arms, 12)
    if against is not None:
        if against not in arms:
            raise ConfigError(f"--against {against}: no such arm{did_you_mean(against, arms)}; there are {known}")
        chosen, how = against, "as given"
    else:
        named = [arm for arm in arms if normalise(arm) in _BASELINES]
        if len(named) != 1:
            raise ConfigError(f"which arm are the others compared with? Give --against; there are {known}")
        chosen, how = named[0], "by its name"
    if len(arms) < 2:
        raise ConfigError(f"there is one arm, {chosen}, and nothing to compare it with")
    return chosen, how


def build_comparisons(
    pairs: Sequence[tuple[str, str]], estimates: Sequence[Estimate], rule: Rule, paired: bool
) -> tuple[Comparison, ...]:
    """Comparisons of estimates that know no seeds."""
    return tuple(
        Comparison(*pair, paired, estimate, judgement, (), (), (), ())
        for pair, estimate, judgement in zip(pairs, estimates, _judge(estimates, rule), strict=True)
    )


def _judge(estimates: Sequence[Estimate], rule: Rule) -> list[Judgement]:
    """Without a spread nothing is said about how many more would do: that is a rule for seeds."""
    judged = zip(estimates, judge(estimates, rule), strict=True)
    return [judgement if estimate.spread else replace(judgement, more_seeds=None) for estimate, judgement in judged]
