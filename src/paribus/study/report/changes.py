"""What was changed in a study after its first row, of what should have been frozen: a sentence for each change."""

from collections.abc import Mapping, Sequence

from paribus.core.formatting import format_count, format_list
from paribus.study.frozen import Frozen, FrozenLooks, FrozenSecondary, Replaced, pair_with_next
from paribus.study.report.wording import choose_unit


def list_changes(earlier: Sequence[Replaced], now: Frozen) -> tuple[str, ...]:
    """earlier: what was frozen before, oldest first; now: what is frozen today."""
    return tuple(
        f"{what} {_format_when(one)}."
        for one, after in pair_with_next(earlier, now)
        for what in _list_differences(one.frozen, after)
    )


def _format_when(one: Replaced) -> str:
    looked = f" and a look at {one.looked:,}" if one.looked else ", no look on record"
    return f"after {format_count(one.rows, 'row')}{looked}"


def _list_differences(before: Frozen, after: Frozen) -> list[str]:
    found: list[str] = []
    if before.metric != after.metric:
        found.append(f"Metric changed from {before.metric} to {after.metric}")
    if before.higher_is_better != after.higher_is_better:
        found.append(f"Direction changed to {'higher' if after.higher_is_better else 'lower'} is better")
    if before.smallest_effect != after.smallest_effect:
        found.append(f"Margin changed from {_format_margin(before)} to {_format_margin(after)}")
    for one, other, how in ((after, before, "added"), (before, after, "dropped")):
        pairs = [f"{arm} against {against}" for arm, against in sorted({*one.comparisons} - {*other.comparisons})]
        seeds = [str(seed) for seed in sorted({*one.seeds} - {*other.seeds})]
        found += [
            f"{name} {how} ({format_list(those)})"
            for name, those in (("Comparisons", pairs), ("Seeds", seeds))
            if those
        ]
    if before.looks != after.looks:
        found.append(f"Planned looks changed from {_format_looks(before.looks)} to {_format_looks(after.looks)}")
    return found + _list_secondary_differences(
        {one.metric: one for one in before.also}, {one.metric: one for one in after.also}
    )


def _list_secondary_differences(
    before: Mapping[str, FrozenSecondary], after: Mapping[str, FrozenSecondary]
) -> list[str]:
    found = [
        f"Secondary metrics {how} ({format_list(sorted(names))})"
        for how, names in (("added", after.keys() - before.keys()), ("dropped", before.keys() - after.keys()))
        if names
    ]
    for metric in sorted(before.keys() & after.keys()):
        one, other = before[metric], after[metric]
        if one.smallest_effect != other.smallest_effect:
            margins = [_format_size(metric, margin) for margin in (one.smallest_effect, other.smallest_effect)]
            found.append(f"Margin of {metric} changed from {margins[0]} to {margins[1]}")
        if one.higher_is_better != other.higher_is_better:
            better = {True: "higher is better", False: "lower is better", None: "neither way is better"}
            found.append(f"Direction of {metric} changed to {better[other.higher_is_better]}")
    return found


def _format_looks(looks: FrozenLooks | None) -> str:
    return f"{looks.first}, then every {looks.more} up to {looks.most} ({looks.spending})" if looks else "none"


def _format_margin(frozen: Frozen) -> str:
    return _format_size(frozen.metric, frozen.smallest_effect)


def _format_size(metric: str, margin: float | None) -> str:
    return "none" if margin is None else choose_unit(metric, [margin]).size(margin)
