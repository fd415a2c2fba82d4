"""The sections of a report that let others check it: every run, where the numbers come from, what each arm sets."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from paribus.core.formatting import DASH
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.model import Section, Table
from paribus.study.report.wording import Unit
from paribus.study.rows import Row


def build_runs(a: Analysis, unit: Unit) -> Section | None:
    """seed × arm."""
    known = {(row.arm, row.seed): row for row in a.rows}
    seeds = sorted({*a.spec.seeds, *(row.seed for row in a.rows)})
    if not seeds:
        return None
    metric = a.spec.metric
    shown = {
        key: "failed" if row.cell in a.failed else unit.value(row.metrics[metric]) + ("*" if row.mixed else "")
        for key, row in known.items()
    }
    rows = tuple((str(seed), *(shown.get((arm, seed), "missing") for arm in a.spec.arms)) for seed in seeds)
    unit_name = f" in {unit.values}" if unit.values else ""
    notes = [f"{metric}{unit_name} at the last step."]
    if a.mixed:
        notes.append("* went on under another numerics fingerprint than it began with.")
    failed = tuple((cell, why) for cell, why in a.failed.items())
    tables = [Table(("seed", *a.spec.arms), rows)]
    if failed:
        tables.append(Table(("failed run", "why"), failed, frozenset({0, 1})))
    return Section("runs", "Every run", tuple(notes), tuple(tables), short=False)


_PROVENANCE: tuple[tuple[str, Callable[[Row], Any]], ...] = (
    ("commit", lambda r: f"{r.commit[:12]}{' with changes' if r.dirty else ''}" if r.commit else None),
    ("paribus", lambda r: r.fingerprint.get("paribus")),
    ("source digest", lambda r: r.fingerprint.get("code")),
    ("torch", lambda r: r.fingerprint.get("torch")),
    ("cuDNN", lambda r: r.fingerprint.get("cudnn")),
    ("processor", lambda r: r.hardware.get("cpu")),
    ("cores", lambda r: r.hardware.get("cores")),
    ("GPU", lambda r: r.hardware.get("gpu")),
    ("capability", lambda r: r.fingerprint.get("device")),
    ("threads", lambda r: r.fingerprint.get("threads")),
    ("processes", lambda r: r.fingerprint.get("world_size")),
    ("switches", lambda r: _format_switches(r.fingerprint)),
    ("data checksum", lambda r: r.data_checksum[:16]),
    ("images", lambda r: ", ".join(f"{size:,} {split}" for split, size in r.sizes.items())),
    ("steps", lambda r: f"{r.steps:,}"),
    ("started", lambda r: r.started[:10] if r.started else None),
    ("segments", lambda r: r.segments),
)


def _format_switches(fingerprint: Mapping[str, Any]) -> str | None:
    keys = ("channels_last", "compile", "deterministic", "tf32")
    return ", ".join(f"{key} {'on' if fingerprint[key] else 'off'}" for key in keys if key in fingerprint) or None


def build_provenance(a: Analysis, unit: Unit) -> Section | None:
    if not a.rows:
        return None
    rows: list[tuple[str, str]] = []
    for name, of in _PROVENANCE:
        values = Counter(str(value) for row in a.rows if (value := of(row)) is not None)
        if len(values) == 1:
            rows.append((name, next(iter(values))))
        elif values:
            rows.append((name, "; ".join(f"{value} ({n} runs)" for value, n in sorted(values.items()))))
    notes = (
        "Equal values on every run stand once; otherwise each with its number of runs. The same recipe, seed, threads, "
        "processes, torch build and processor model give the same bits.",
    )
    return Section("provenance", "Provenance", notes, (Table(("what", "value"), tuple(rows), frozenset({0, 1})),))


def build_overrides(a: Analysis, unit: Unit) -> Section:
    """What each arm sets, so that a single run can be reproduced by hand."""
    rows = tuple((arm, " ".join(own) or "nothing of its own") for arm, own in a.spec.arms.items())
    ids = {arm: [row.id for row in a.rows if row.arm == arm] for arm in a.spec.arms}
    common = " ".join(a.spec.recipe)
    notes = (f"All arms: paribus train {common} seed=SEED",) if common else ()
    rows = tuple((*row, f"{ids[row[0]][0]} …" if ids[row[0]] else DASH) for row in rows)
    head = ("arm", "overrides", "recipe id of its first seed")
    return Section("overrides", "What each arm sets", notes, (Table(head, rows, frozenset({0, 1, 2})),), short=False)
