"""`paribus verify RUN`: train a recorded run again, or a span of it, and report whether it is bit-exact; and `paribus
verify STUDY --cell ARM/sN`: the same of a row on record whose run folder is gone.

What is compared is the run's receipt (engine/receipt.py), its record and summary, and its row in a study
(runs/record_check.py). The run folder is read and never written.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paribus.cli.arguments.trained import split_run
from paribus.cli.options import amount
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import MISMATCH, OK
from paribus.core.formatting import format_count, format_list, format_seconds
from paribus.core.scratch import scratch_folder
from paribus.study.load import load_study
from paribus.study.rows import Row, read_rows
from paribus.study.runner.verify_cell import CellVerdict, verify_cell
from paribus.study.spec import RESULTS, SPEC, Study
from paribus.study.units import read_margin

if TYPE_CHECKING:
    from paribus.engine.agreement import Difference
    from paribus.runs.replay import ReplayResult

FEW = 10  # steps in which rounding errors stay small
MOST = 10  # values of the record that are named


def run(args: argparse.Namespace) -> int:
    folder, overrides = split_run(args, "run folder")
    if args.cell is not None:
        return _verify_cell(args, folder, overrides)
    if (folder / SPEC).is_file():
        raise ConfigError(f"{folder}: is a study; --cell ARM/sN says which of its cells")
    span = args.span if args.steps is None else f"0:{args.steps}"
    tolerance = None if args.tolerance is None else _read_tolerance(args.tolerance)

    from paribus.engine import distributed
    from paribus.runs.replay import replay_run  # torch comes with it

    rows = find_rows(folder, args.study)
    try:
        found = replay_run(folder, span, tolerance, overrides, rows)
    finally:
        distributed.destroy_process_group()
    if distributed.from_environment().is_main:
        print(json.dumps(as_json(found)) if args.json else "\n".join(describe(found)))
    return MISMATCH if found.outcome == "differs" else OK


def _verify_cell(args: argparse.Namespace, folder: Path, overrides: list[str]) -> int:
    given = [*overrides, *(f"--{name}" for name in ("steps", "span", "study") if getattr(args, name) is not None)]
    if given:
        raise ConfigError(f"--cell: a cell is trained as planned, whole; leave out {', '.join(given)}")
    study = load_study(folder)
    text = args.tolerance
    tolerance = None if text is None else read_margin(text, study.spec.metric, "--tolerance")
    with scratch_folder("paribus-verify-") as scratch:
        found = verify_cell(study, args.cell, tolerance, scratch)
    if args.json:
        plain = {"cell": args.cell, "verdict": found.outcome, **asdict(found)}
        print(json.dumps(plain))
    else:
        print("\n".join(describe_cell(study, found)))
    return MISMATCH if found.outcome == "differs" else OK


def _read_tolerance(text: str) -> float:
    """Of a run's replay: a relative difference, without a unit. With --cell it is one of the metric."""
    try:
        return amount(text)
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"--tolerance: {error}") from error


def describe_cell(study: Study, v: CellVerdict) -> list[str]:
    """The verdict on a cell in words."""
    c, apart = v.comparison, abs(v.here - v.recorded)
    lines = [f"{study.name}, {c.cell}: trained again in {format_seconds(v.seconds)}"]
    told = f"{v.metric} {v.here:.6g}, on record {v.recorded:.6g}"
    if v.outcome == "bit-equal":
        lines.append(f"bit-equal: all metrics and curves are those of its row ({told})")
    else:
        allowed = f"{apart:.3g} apart, allowed {v.allowed:.3g}"
        lines.append(
            f"{v.outcome}: {told} ({allowed}); {format_count(len(c.values), 'value')} of metrics and curves differ"
        )
    if c.numerics:
        lines.append(f"what may change bits and differs: {format_list(map(str, c.numerics), MOST)}")
        if v.outcome == "differs" and not v.allowed:
            lines.append(
                "with fewer than three other seeds of the arm no difference is allowed; --tolerance X allows one"
            )
    return lines


def find_rows(folder: Path, study: Path | None) -> list[Row]:
    """The rows of a run in this study or, without one, in experiments/NAME where its folder is runs/NAME/RUN, as
    `paribus study run` puts it. Raises ConfigError if a study is given and has none."""
    recorded = runfolder.read_json(folder / runfolder.SUMMARY).get("id")
    names = [parent.name for parent in folder.absolute().parents[:2]]
    places = [study] if study else [Path("experiments") / name for name in names if name]
    found = [
        row
        for place in places
        for row in read_rows((place.parent if place.name == SPEC else place) / RESULTS)
        if row.id == recorded
    ]
    if study and not found:
        raise ConfigError(f"--study: {study / RESULTS} has no row of recipe {recorded}")
    return found


def as_json(v: ReplayResult) -> dict[str, Any]:
    a = v.agreement

    def plain(d: Difference | None) -> dict[str, Any] | None:
        return asdict(d) if d else None

    return {
        "run": str(v.record.folder),
        "verdict": v.outcome,
        "begin": v.begin,
        "end": v.end,
        "compared": {
            "losses": a.losses,
            "gradient_norms": a.norms,
            "checksums": a.checksums,
            "metrics": a.metrics,
            "summary": a.final,
        },
        "not_compared": list(v.check.not_compared),
        "record": [asdict(d) for d in v.check.discrepancies],
        "differs_from": (a.first_beyond_tolerance or a.first).step if v.outcome == "differs" and a.first else None,
        "first": plain(a.first),
        "beyond": plain(a.first_beyond_tolerance),
        "largest": plain(a.largest),
        "sound": a.last_sound_step,
        "promised": v.is_exact_promised,
        "tolerance": v.tolerance,
        "differences": {key: list(pair) for key, pair in v.differences.items()},
        "seconds": v.seconds,
    }


def describe(v: ReplayResult) -> list[str]:
    """The verdict in words."""
    a = v.agreement
    lines = [f"{v.record.folder}: steps {v.begin + 1} to {v.end} of {v.record.end} again, in {v.seconds:.1f} s"]
    counted = f"{a.losses} losses, {a.norms} gradient norms, {a.checksums} checksums of weights and optimizer"
    counted += f", {a.metrics} values of {runfolder.EVENTS} and {a.final} of {runfolder.SUMMARY}"
    if a.first is None and v.check.discrepancies:
        lines.append(
            f"the replay is bit-exact ({counted} are equal), but the rest of the record is not as it should be"
        )
    elif a.first is None:
        lines.append(f"bit-exact: {counted} are equal")
    elif a.first_beyond_tolerance is None:
        largest = f"{a.largest.relative:.2g}, {a.largest.name} at step {a.largest.step}" if a.largest else "0"
        lines.append(f"within tolerance {v.tolerance:g} (largest relative difference {largest}): {counted}")
        lines.append(f"bits differ from step {a.first.step} on")
    else:
        lines.append(f"differs from step {a.first_beyond_tolerance.step}: {_compare(a.first_beyond_tolerance)}")
        if a.first_beyond_tolerance != a.first:
            lines.append(f"beyond tolerance {v.tolerance:g} there; bits differ from step {a.first.step} on")
        since = (
            f"were last equal at the checkpoint of step {a.last_sound_step}"
            if a.last_sound_step > v.begin
            else "began equal"
        )
        lines.append(f"weights and optimizer {since}, before step {a.first.step}")
        if a.largest:
            lines.append(
                f"largest relative difference {a.largest.relative:.2g}: {_compare(a.largest)}, at step {a.largest.step}"
            )
    return [*lines, *_list_discrepancies(v), *_explain(v)]


def _compare(d: Difference) -> str:
    if d.relative is None:
        return f"{d.name} was {str(d.then)[:12]} and is {str(d.now)[:12]} ({d.file})"
    return f"{d.name} was {d.then!r} and is {d.now!r} ({d.file})"


def _list_discrepancies(v: ReplayResult) -> list[str]:
    """Values of the record that should be others, and what was not compared."""
    lines: list[str] = []
    for d in v.check.discrepancies[:MOST]:
        at = "" if d.step is None else f" at step {d.step}"
        lines.append(f"{d.file}{at}: {d.key or 'there'} is {d.recorded!r}, should be {d.expected!r}")
    if len(v.check.discrepancies) > MOST:
        lines.append(f"and {len(v.check.discrepancies) - MOST} more; --json names them all")
    return [*lines, *([f"not compared: {'; '.join(v.check.not_compared)}"] if v.check.not_compared else [])]


def _explain(v: ReplayResult) -> list[str]:
    if v.differences:
        width = max(map(len, v.differences))
        rows = [f"  {key:<{width}}  {then} -> {now}" for key, (then, now) in v.differences.items()]
        grown = (
            v.agreement.first_beyond_tolerance is not None
            and v.agreement.first_beyond_tolerance != v.agreement.first
            and v.end - v.begin > FEW
        )
        advice = [f"rounding alone can grow this much; --steps {FEW} shows what it does at first"] if grown else []
        other = ["the data has changed: its checksum is not the recorded one"] if "data" in v.differences else []
        return ["differences from the recorded run:", *rows, *other, *advice]
    same = "the numerics fingerprint is the recorded one"
    if v.agreement.is_exact:
        return [same]
    if v.is_exact_promised:
        return [f"{same}, so the run should be bit-exact: the record, the data or this machine has changed"]
    return [f"{same}, but CUDA without runtime=deterministic is not promised to be bit-exact"]
