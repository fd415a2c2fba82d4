"""What a study fixes before its numbers are known; and what was fixed earlier, if it was changed with rows on record.

The recipes of the arms are not here: a changed recipe is another run, and is refused (plan.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paribus.study.spec import SequentialSeeds, StudySpec


@dataclass(frozen=True)
class FrozenSecondary:
    """A metric of `also`. smallest_effect: None where none is stated."""

    metric: str
    higher_is_better: bool | None
    smallest_effect: float | None


@dataclass(frozen=True)
class FrozenLooks:
    """When a study with sequential seeds looks: see SequentialSeeds."""

    first: int
    more: int
    most: int
    spending: str


@dataclass(frozen=True)
class Frozen:
    """comparisons: (arm, what it is compared with). They, the seeds and the secondary metrics are sorted: another order
    is no change. looks: None where the number of seeds is fixed."""

    metric: str
    higher_is_better: bool
    smallest_effect: float
    comparisons: tuple[tuple[str, str], ...]
    seeds: tuple[int, ...]
    also: tuple[FrozenSecondary, ...] = ()
    looks: FrozenLooks | None = None


@dataclass(frozen=True)
class Replaced:
    """A frozen part that is no longer in force. rows: done ones on record when it was replaced. looked: at how many of
    them the last look before that was, 0 if there was none."""

    frozen: Frozen
    rows: int
    looked: int


def freeze_spec(spec: StudySpec) -> Frozen:
    """What study.yaml says now."""
    return Frozen(
        metric=spec.metric,
        higher_is_better=spec.higher_is_better,
        smallest_effect=_round_margin(spec.smallest_effect),
        comparisons=tuple(sorted((pair.arm, pair.against) for pair in spec.comparisons)),
        seeds=tuple(sorted(spec.seeds)),
        also=tuple(
            FrozenSecondary(
                one.metric,
                one.higher_is_better,
                None if one.smallest_effect is None else _round_margin(one.smallest_effect),
            )
            for one in sorted(spec.also, key=lambda one: one.metric)
        ),
        looks=_freeze_looks(spec.sequential),
    )


def _freeze_looks(seeds: SequentialSeeds | None) -> FrozenLooks | None:
    return None if seeds is None else FrozenLooks(seeds.first, seeds.more, seeds.most, seeds.spending)


def _round_margin(margin: float) -> float:
    return float(f"{margin:.12g}")  # 0.7 / 100 is 0.007, not the number beside it


def pair_with_next(earlier: Sequence[Replaced], now: Frozen) -> list[tuple[Replaced, Frozen]]:
    """Each with what took its place. earlier: oldest first; now: what is in force."""
    return list(zip(earlier, [*(replaced.frozen for replaced in earlier), now][1:], strict=True))


def parse_frozen(node: Mapping[str, Any]) -> Frozen:
    """From JSON. Raises KeyError or TypeError for what is none."""
    return Frozen(
        metric=node["metric"],
        higher_is_better=node["higher_is_better"],
        smallest_effect=node["smallest_effect"],
        comparisons=tuple((arm, against) for arm, against in node["comparisons"]),
        seeds=tuple(node["seeds"]),
        also=tuple(FrozenSecondary(**one) for one in node.get("also", ())),
        looks=FrozenLooks(**node["looks"]) if node.get("looks") else None,
    )


def plain_frozen(frozen: Frozen) -> dict[str, Any]:
    """For JSON. Without `also` and `looks` where there are none, as files from before these keys have it."""
    return {key: value for key, value in asdict(frozen).items() if key not in ("also", "looks") or value}
