"""plan.jsonl: every cell of a study, composed once and frozen. Committed, so that rows can be checked against it later.

The first line is the head: {"schema", "study", "frozen", "earlier", "arms": {arm: {"device", "recipe"}}}, where recipe
is what an arm computes, without the seed, and "evaluators" stands beside it where the study judges by one whose
settings are in no id (protocols.py); and "config_dir", the user's own configs relative to the study's folder, if there
are any: each cell is composed with them. Of a study with `tune:`, "tuned" and "tuning_digest": the settings that
were chosen for each arm, which its cells have, and a hash of the rows of tune/results.jsonl that they were chosen by.
frozen: metric, direction, margin, comparisons, seeds and secondary metrics; earlier: what they
were before they were changed with rows on record, [{"rows", "looked", "frozen"}] (frozen.py). A line for each cell
follows: {"schema", "cell", "arm", "seed", "id", "folder", "overrides", "title"}. `overrides` is what `paribus train` is
given; the launcher adds the folder of runs.

Schema 1 had neither frozen nor earlier. Such a plan is read, and written anew only when its study changes; its cells
say which seeds were frozen, and looks.jsonl says the rest, from the first look on.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paribus.core.errors import ConfigError
from paribus.core.runfolder import write_atomically
from paribus.study.frozen import Frozen, Replaced, freeze_spec, pair_with_next, parse_frozen, plain_frozen
from paribus.study.jsonl import read_lines
from paribus.study.looks import LOOKS, Look, read_looks
from paribus.study.protocols import check_protocols
from paribus.study.rows import Row
from paribus.study.spec import PLAN, RESULTS, Study, find_config_folder
from paribus.study.tuning.choice import ChosenSettings, parse_chosen, plain_chosen

SCHEMA = 2


@dataclass(frozen=True)
class Cell:
    """One run of a study. id: of its recipe. folder: the name of its run folder. config_dir: the absolute path of the
    user's own configs here, "" if there are none."""

    arm: str
    seed: int
    id: str
    folder: str
    overrides: tuple[str, ...]
    title: str
    config_dir: str = ""

    @property
    def name(self) -> str:
        return f"{self.arm}/s{self.seed}"


@dataclass(frozen=True)
class Plan:
    """recipes: arm -> what it computes, without the seed. devices: arm -> its runtime.device. frozen: None in a plan of
    schema 1. earlier: oldest first. config_dir: of the user's own configs, relative to the study's folder. to_measure:
    secondary metrics that no evaluator of some arm declares, which composing alone shows; it is not written. tuned: the
    settings that were chosen, None where nothing is tuned, and in the plan of the tuning itself. protocols: arm ->
    evaluator -> its settings, of those that measure what the study judges by and are in no id; {} in an old plan."""

    study: str
    recipes: Mapping[str, Mapping[str, Any]]
    devices: Mapping[str, str]
    cells: tuple[Cell, ...]
    frozen: Frozen | None
    earlier: tuple[Replaced, ...] = ()
    config_dir: str | None = None
    to_measure: tuple[str, ...] = field(default=(), compare=False)
    tuned: ChosenSettings | None = None
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def by_name(self) -> dict[str, Cell]:
        return {cell.name: cell for cell in self.cells}

    def ids(self) -> dict[str, str]:
        """Name -> recipe id, in order."""
        return {cell.name: cell.id for cell in self.cells}

    def by_id(self) -> dict[str, Cell]:
        return {cell.id: cell for cell in self.cells}


def read_plan(path: Path, folder: Path | None = None) -> Plan | None:
    """The plan in a file, None if there is no file. folder: the study's, if the file is not in it but in a stage's.
    Raises ConfigError if it is damaged or of a newer schema."""
    if not path.is_file():
        return None
    folder = folder or path.parent
    again = f"restore it from git or a copy, else delete it; paribus study plan {folder} recreates it"
    head, *lines = read_lines(path, SCHEMA, again) or [{}]
    try:
        config_dir = head.get("config_dir")
        own = "" if config_dir is None else str(find_config_folder(folder, config_dir))
        cells = tuple(
            Cell(line["arm"], line["seed"], line["id"], line["folder"], tuple(line["overrides"]), line["title"], own)
            for line in lines
        )
        arms = head["arms"]
        recipes, devices = ({arm: arms[arm][key] for arm in arms} for key in ("recipe", "device"))
        frozen = parse_frozen(head["frozen"]) if head.get("frozen") else None
        earlier = tuple(Replaced(parse_frozen(e["frozen"]), e["rows"], e["looked"]) for e in head.get("earlier", ()))
        protocols = {arm: arms[arm]["evaluators"] for arm in arms if arms[arm].get("evaluators")}
        tuned = parse_chosen(head)
        return Plan(
            head["study"], recipes, devices, cells, frozen, earlier, config_dir, tuned=tuned, protocols=protocols
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {error!r}; {again}") from error


def require_plan(study: Study) -> Plan:
    """The frozen plan. Raises ConfigError if there is none yet."""
    found = read_plan(study.plan_path, study.folder)
    if found is None:
        raise ConfigError(f"{study.folder} has no {PLAN} yet; run paribus study plan {study.folder} first")
    return found


def format_plan(plan: Plan) -> str:
    arms = {
        arm: {
            "device": plan.devices[arm],
            "recipe": plan.recipes[arm],
            **({"evaluators": plan.protocols[arm]} if plan.protocols.get(arm) else {}),
        }
        for arm in plan.recipes
    }
    cells = (
        {
            "schema": SCHEMA,
            "cell": cell.name,
            "arm": cell.arm,
            "seed": cell.seed,
            "id": cell.id,
            "folder": cell.folder,
            "overrides": list(cell.overrides),
            "title": cell.title,
        }
        for cell in plan.cells
    )
    head = {
        "schema": SCHEMA,
        "study": plan.study,
        "frozen": plain_frozen(plan.frozen) if plan.frozen else None,
        "earlier": [
            {"frozen": plain_frozen(one.frozen), "rows": one.rows, "looked": one.looked} for one in plan.earlier
        ],
        **({"config_dir": plan.config_dir} if plan.config_dir is not None else {}),
        **plain_chosen(plan.tuned),
        "arms": arms,
    }
    return "".join(json.dumps(line) + "\n" for line in (head, *cells))


def freeze(study: Study, plan: Plan, rows: Iterable[Row]) -> tuple[Replaced, ...]:
    """Write the plan, unless it is there already, and in it what was frozen earlier; returns what is new of that.

    Raises ConfigError, and writes nothing, where rows were recorded of other recipes, or the disk is full.
    """
    rows, before = list(rows), read_plan(study.plan_path, study.folder)
    check_cells(plan)
    check_rows(study, plan, before, rows)
    if before is not None:
        old = before.by_name()
        both = {cell.name: (old[cell.name].overrides, cell.overrides) for cell in plan.cells if cell.name in old}
        check_protocols(plan.protocols, before.protocols, both, rows)
    earlier = list_earlier(study, before, rows)
    alike = plan if before is None or before.protocols else replace(plan, protocols={})  # old plans do not have them
    if before is not None and before.frozen is None and not earlier and replace(alike, frozen=None) == before:
        return ()  # of schema 1, and nothing changed
    text = format_plan(replace(plan, earlier=earlier))
    if alike is not plan and study.plan_path.read_text() == format_plan(replace(alike, earlier=earlier)):
        return ()
    try:
        if not study.plan_path.is_file() or study.plan_path.read_text() != text:
            write_atomically(study.plan_path, text)
    except OSError as error:
        raise ConfigError(f"{study.plan_path} cannot be written: {error.strerror}") from error
    return earlier[len(before.earlier) if before else 0 :]


def list_earlier(study: Study, plan: Plan | None, rows: Iterable[Row]) -> tuple[Replaced, ...]:
    """What was frozen earlier, oldest first, up to what study.yaml says now; () if nothing changed since the first row.

    plan: the recorded one. Without one, or from one of schema 1, only what the looks show is known.
    """
    now, looks, done = freeze_spec(study.spec), read_looks(study), sum(row.state == "done" for row in rows)
    looked = looks[-1].rows if looks else 0
    if plan is None or plan.frozen is None:
        known = _list_known(plan, looks, now, done)
    elif done or looked:
        planned = [*(one.frozen for one in plan.earlier), plan.frozen]
        # looked at under a study.yaml that was never planned, and perhaps put back since
        unplanned = [Replaced(look.frozen, look.rows, look.rows) for look in looks if look.frozen not in planned]
        known = [*plan.earlier, Replaced(plan.frozen, done, looked), *unplanned]
    else:
        known = list(plan.earlier)
    return tuple(one for one, after in pair_with_next(known, now) if one.frozen != after)


def _list_known(plan: Plan | None, looks: Sequence[Look], now: Frozen, done: int) -> list[Replaced]:
    """What was frozen at each look and, by the cells of a plan of schema 1, before the first."""
    known = [Replaced(look.frozen, look.rows, look.rows) for look in looks]
    if known:
        known[-1] = replace(known[-1], rows=max(done, known[-1].rows))
    if plan is not None and (done or looks):
        first = looks[0].frozen if looks else now
        seeds = tuple(sorted({cell.seed for cell in plan.cells}))
        known.insert(0, Replaced(replace(first, seeds=seeds), looks[0].rows if looks else done, 0))
    return known


def order_cells(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """In the order in which they are run: every arm of the first seed, then of the next. Seeds come as the plan has
    them."""
    cells = tuple(cells)
    place = {seed: i for i, seed in enumerate(dict.fromkeys(cell.seed for cell in cells))}
    return tuple(sorted(cells, key=lambda cell: place[cell.seed]))


def check_cells(plan: Plan) -> None:
    """Raises ConfigError if two cells are the same run."""
    seen: dict[str, Cell] = {}
    for cell in plan.cells:
        if other := seen.get(cell.id):
            raise ConfigError(
                f"arms.{cell.arm}: computes the same as arm {other.arm} (recipe {cell.id} at seed {cell.seed}); "
                "leave one of them out"
            )
        seen[cell.id] = cell


def check_rows(study: Study, plan: Plan, before: Plan | None, rows: Iterable[Row]) -> None:
    """Raises ConfigError if recorded rows are not in this plan, or are there with another recipe.

    before: the plan that they were recorded under, to report which keys have changed.
    """
    cells = plan.by_name()
    advice = f"put it back, or move {RESULTS}, {PLAN} and {LOOKS} away to restart the study"
    known = before.by_id() if before else {}
    for row in rows:
        if row.state != "done":  # a failed run may be changed
            continue
        cell = cells.get(row.cell)
        if cell is None:
            raise ConfigError(f"{study.results_path}: has a row of {row.cell}, which is no longer planned; {advice}")
        if cell.id == row.id:
            continue
        old = known.get(row.id)
        changes = diff_recipes(before.recipes[old.arm], plan.recipes[row.arm]) if before and old else []
        changed = (
            ", ".join(f"{key} was {was}, is {now}" for key, was, now in changes[:6])
            or "which keys is unknown, since the earlier plan is missing"
        )
        raise ConfigError(
            f"arms.{row.arm}: the recipe has changed since its rows were recorded: {changed} "
            f"({row.cell} was {row.id}, is {cell.id}); {advice}"
        )


def diff_recipes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The keys in which two recipes differ, each with both values."""
    before, after = flatten(old), flatten(new)
    keys = [*before, *(key for key in after if key not in before)]
    gone = "not there"
    both = [(key, before.get(key, gone), after.get(key, gone)) for key in keys]
    return [(key, one, other) for key, one, other in both if one != other]


def flatten(node: Any, path: str = "") -> dict[str, Any]:
    """Dotted key -> value. A list of [name, value] pairs counts as a mapping: so transforms keep their order."""
    if (
        isinstance(node, list)
        and node
        and all(isinstance(i, list) and len(i) == 2 and isinstance(i[0], str) for i in node)
    ):
        order = {f"{path} (order)": [name for name, _ in node]} if len(node) > 1 else {}
        return order | flatten(dict(node), path)
    if not isinstance(node, Mapping):
        return {path: node}
    return {k: v for key, value in node.items() for k, v in flatten(value, f"{path}.{key}" if path else key).items()}
