"""Models on the same examples, each right or wrong on each: McNemar's test, the score interval, clusters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.study.judge.columns import Roles, check_column, list_columns
from paribus.study.judge.judged import EXAMPLES, Judged, JudgeOptions, build_comparisons, choose_baseline
from paribus.study.judge.metric import Metric
from paribus.study.judge.table import SourceTable
from paribus.study.stats.estimate import Estimate
from paribus.study.stats.paired import ArmSummary
from paribus.study.stats.paired_binary import Outcomes, count_outcomes, estimate_difference
from paribus.study.stats.verdict import Rule

_RIGHT, _WRONG = {"1", "1.0", "true", "yes", "right", "correct"}, {"0", "0.0", "false", "no", "wrong", "incorrect"}
_FEW_CLUSTERS = 20
THESE_MODELS = (
    "The population is examples: this compares these trained models, not the recipes that made them, of which another "
    "seed may come out otherwise. Runs with several seeds judge the recipes."
)


@dataclass(frozen=True)
class Answers:
    """Whether each model is right, over the same examples in the same order. clusters: number of each example's."""

    right: Mapping[str, np.ndarray]
    clusters: np.ndarray | None
    columns: str
    by_order: bool = False


def judge_examples(tables: Sequence[SourceTable], options: JudgeOptions) -> Judged:
    """Raises ConfigError, in one line, for what cannot be read or compared."""
    answers = _read_files(tables, options) if len(tables) > 1 else _read_file(tables[0], options)
    arms = list(answers.right)
    baseline, how = choose_baseline(arms, options.against)
    ordered = [baseline, *(arm for arm in arms if arm != baseline)]
    metric = Metric(options.metric or "accuracy", True, False, options.higher is not False, "right is better")
    if options.higher is False:
        raise ConfigError("--lower: with --examples, to be right is better; where 1 means wrong, swap 0 and 1")
    rule = Rule(margin=metric.read_margin(options.margin) or 0.0)
    outcomes = tuple(
        count_outcomes(answers.right[arm], answers.right[baseline], answers.clusters) for arm in ordered[1:]
    )
    if (clusters := outcomes[0].clusters) == 1:
        raise ConfigError("all examples are of one cluster; at least two are needed to see how they vary")

    def estimate(bonus: float, margin: float) -> list[Estimate]:
        return [estimate_difference(o, bonus=bonus, margin=margin) for o in outcomes]

    test = (
        "McNemar's exact test, score interval" if clusters is None else f"cluster-robust t over {clusters:,} clusters"
    )
    pairs = [(arm, baseline) for arm in ordered[1:]]
    return Judged(
        kind="examples",
        name=format_list(table.name for table in tables),
        metric=metric,
        rule=rule,
        baseline=baseline,
        arms={arm: _summarise(answers.right[arm]) for arm in ordered},
        comparisons=build_comparisons(pairs, estimate(0.0, rule.margin), rule, paired=True),
        estimate=estimate,
        test=test,
        columns=f"{answers.columns}; against {baseline}, {how}",
        counted=EXAMPLES,
        cautions=_list_cautions(answers, clusters),
        outcomes=outcomes,
    )


def _list_cautions(answers: Answers, clusters: int | None) -> tuple[str, ...]:
    found = [THESE_MODELS]
    if clusters is not None and clusters < _FEW_CLUSTERS:
        found.append(
            f"There are only {clusters} clusters; below {_FEW_CLUSTERS} such intervals are a little too short."
        )
    if answers.by_order:
        found.append("Examples have no names, so those in the same place of each file are taken for the same one.")
    return tuple(found)


def _summarise(right: np.ndarray) -> ArmSummary:
    n, share = len(right), float(np.mean(right))
    sd = float(np.std(right, ddof=1)) if n > 1 else float("nan")
    return ArmSummary(n, share, sd, sd / n**0.5, ())


def _read_file(table: SourceTable, options: JudgeOptions) -> Answers:
    """One file: a row for each model and example, or for each example with a column for each model."""
    roles = Roles(table, {**options.columns, "correct": None})
    example = roles.find("example")
    cluster = roles.find("cluster")
    if roles.find("arm") is not None:
        return _read_long(table, roles, options)
    columns = list(options.values) or _list_binary(roles)
    for column in columns:
        check_column(table, column, "--value")
    if len(columns) < 2:
        raise ConfigError(
            f"{table.name}: --examples needs a column of 0 and 1 for each model, or --arm; {list_columns(table)}"
        )
    if example is not None:
        _place_examples(table, table.cells(example), "")
    right = {column: _read_right(table, column) for column in columns}
    return Answers(
        right, _read_clusters(table, cluster), f"models = {format_list(columns, 12)}{_and(roles, 'cluster')}"
    )


def _and(roles: Roles, *names: str) -> str:
    return "".join(f", {role} = {roles.found[role]}" for role in names if role in roles.found)


def _list_binary(roles: Roles) -> list[str]:
    free = [column for column in roles.table.columns if column and column not in roles.found.values()]
    return [column for column in free if {c.lower() for c in roles.table.cells(column)} <= _RIGHT | _WRONG]


def _read_long(table: SourceTable, roles: Roles, options: JudgeOptions) -> Answers:
    arm, example = roles.found["arm"], roles.need("example")
    correct = _find_correct(roles, options)
    right = _read_right(table, correct)
    names, ids = table.cells(arm), table.cells(example)
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    parts = {name: _select(table, at) for name, at in rows.items()}
    places = {name: _place_examples(parts[name], [ids[i] for i in at], f" of {name}") for name, at in rows.items()}
    orders = _align(table.name, places)
    aligned = {name: right[at][order] for (name, at), order in zip(_as_arrays(rows), orders, strict=True)}
    cluster = roles.found.get("cluster")
    clusters = _share_clusters([(part, cluster, order) for part, order in zip(parts.values(), orders, strict=True)])
    return Answers(aligned, clusters, roles.describe())


def _as_arrays(rows: Mapping[str, list[int]]) -> list[tuple[str, np.ndarray]]:
    return [(name, np.array(at)) for name, at in rows.items()]


def _select(table: SourceTable, rows: Sequence[int]) -> SourceTable:
    picked = tuple(table.rows[i] for i in rows)
    return SourceTable(table.name, table.columns, picked, [table.lines[i] for i in rows], table.decimal_comma)


def _read_files(tables: Sequence[SourceTable], options: JudgeOptions) -> Answers:
    """A file for each model, which is called by the file's name."""
    stems = _name_models(tables)
    every = [Roles(table, {**options.columns, "correct": None}) for table in tables]
    right = {
        name: _read_right(table, _find_correct(roles, options))
        for name, table, roles in zip(stems, tables, every, strict=True)
    }
    examples = [roles.find("example") for roles in every]
    columns = [roles.find("cluster") for roles in every]
    if None in examples:
        if unlike := next((t for t in tables if len(t.rows) != len(tables[0].rows)), None):
            raise ConfigError(
                f"{tables[0].name} has {len(tables[0].rows):,} examples and {unlike.name} {len(unlike.rows):,}; "
                "name the examples in a column (--example) so that they can be matched"
            )
        in_order = np.arange(len(tables[0].rows))
        clusters = _share_clusters([(t, column, in_order) for t, column in zip(tables, columns, strict=True)])
        return Answers(right, clusters, every[0].describe(), by_order=True)
    places = {
        name: _place_examples(table, table.cells(str(column)), "")
        for name, table, column in zip(stems, tables, examples, strict=True)
    }
    orders = _align(f"{tables[0].name} and {tables[1].name}", places)
    aligned = {name: right[name][order] for name, order in zip(stems, orders, strict=True)}
    clusters = _share_clusters(list(zip(tables, columns, orders, strict=True)))
    return Answers(aligned, clusters, every[0].describe())


def _name_models(tables: Sequence[SourceTable]) -> list[str]:
    """The names of the files without folder and ending; with their paths where that is not enough."""
    stems = [table.name.rpartition("/")[2].rpartition(".")[0] or table.name for table in tables]
    return stems if len(set(stems)) == len(stems) else [table.name for table in tables]


def _find_correct(roles: Roles, options: JudgeOptions) -> str:
    """The column that says whether a row is right: as named, by its name, else the only one of 0 and 1."""
    if len(options.values) > 1:
        raise ConfigError(
            f"--value: found {', '.join(options.values)}; a row says of one model whether it is right, so name one"
        )
    if options.values:
        roles.found["correct"] = check_column(roles.table, options.values[0], "--value")
    elif roles.find("correct") is None:
        match _list_binary(roles):
            case [column]:
                roles.set("correct", column)
            case _:
                raise ConfigError(
                    f"{roles.table.name}: which column says whether a model is right (1) or wrong (0)? Give --value; "
                    f"{list_columns(roles.table)}"
                )
    return roles.found["correct"]


def _read_right(table: SourceTable, column: str) -> np.ndarray:
    meaning = {text: text.lower() in _RIGHT for text in set(table.cells(column)) if text.lower() in _RIGHT | _WRONG}
    cells = table.cells(column)
    for i, text in enumerate(cells):
        if text not in meaning:
            raise ConfigError(f"{table.where(i)}: {column} is {text!r}; should be 1 (right) or 0 (wrong)")
    return np.array([meaning[text] for text in cells], dtype=bool)


def _place_examples(table: SourceTable, ids: Sequence[str], of: str) -> dict[str, int]:
    places = {name: i for i, name in enumerate(ids)}
    if len(places) < len(ids):
        seen: dict[str, int] = {}
        for i, name in enumerate(ids):
            if name in seen:
                raise ConfigError(f"{table.where(i)} is example {name}{of}, as is line {table.lines[seen[name]]}")
            seen[name] = i
    return places


def _align(where: str, places: Mapping[str, Mapping[str, int]]) -> list[np.ndarray]:
    """For each model the rows in the order of the first one's examples."""
    first, *others = places
    for other in others:
        if unlike := sorted(places[first].keys() ^ places[other].keys()):
            has, lacks = (first, other) if unlike[0] in places[first] else (other, first)
            raise ConfigError(
                f"{where}: example {unlike[0]} is there for {has} and not for {lacks}"
                f"{f', and {len(unlike) - 1:,} more' if len(unlike) > 1 else ''}; all models need the same examples"
            )
    return [np.array([at[name] for name in places[first]]) for at in places.values()]


def _read_clusters(table: SourceTable, column: str | None) -> np.ndarray | None:
    return None if column is None else _share_clusters([(table, column, np.arange(len(table.rows)))])


def _share_clusters(parts: Sequence[tuple[SourceTable, str | None, np.ndarray]]) -> np.ndarray | None:
    """The cluster of each example, by the tables that have a column of them; None where none has. parts: table, column,
    and its rows in the order of the examples. Raises ConfigError where two tables do not agree."""
    found: np.ndarray | None = None
    for table, column, order in parts:
        if column is None:
            continue
        cells = table.cells(column)
        for i, text in enumerate(cells):
            if not text:
                raise ConfigError(f"{table.where(i)} has no cluster ({column} is empty)")
        here = np.array(cells, dtype=object)[order]
        if found is None:
            found = here
        elif len(unlike := np.flatnonzero(found != here)):
            at = int(unlike[0])
            raise ConfigError(
                f"{table.where(int(order[at]))} is in cluster {here[at]}, and the same example of another model in "
                f"{found[at]}; an example is in one cluster"
            )
    return None if found is None else np.unique(found.astype(str), return_inverse=True)[1]


def list_outcomes(outcomes: Sequence[Outcomes]) -> list[dict[str, int | None]]:
    """The counts, for programs."""
    return [
        {"both": o.both, "arm": o.arm, "baseline": o.baseline, "neither": o.neither, "clusters": o.clusters}
        for o in outcomes
    ]
