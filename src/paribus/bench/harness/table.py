"""Results as a Markdown page for people and as JSON for the cards."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paribus.bench.harness.measure import Measurement, Result, ratios
from paribus.core.formatting import format_duration

FORMAT = 1
METHODOLOGY = (
    "Every implementation is checked first; one that is wrong is not timed. The others take turns, one sample each a "
    "round, in another order every round. Times are medians over the rounds, beside them the middle half of the "
    "samples. Ratios are medians of the rounds' ratios to the row with 1.00."
)


def results_to_dict(results: Sequence[Result], about: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data, for JSON. about: date, command, machine, packages."""
    return {"format": FORMAT, **about, "cases": [case_to_dict(result) for result in results]}


def case_to_dict(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "technique": case.technique,
        "title": case.title,
        "work": case.work,
        "truth": case.truth,
        "tolerance": case.tolerance,
        "numbers": dict(case.numbers),
        "samples": case.samples,
        "rows": [_measurement_to_dict(result, row) for row in result.rows],
        "targets": [
            {
                "target": verdict.target.description,
                "subject": verdict.target.subject,
                "against": verdict.target.against or "the fastest public one",
                "at_most": verdict.target.at_most,
                "ratio": verdict.ratio,
                "status": verdict.status,
            }
            for verdict in result.verdicts
        ],
    }


def _measurement_to_dict(result: Result, row: Measurement) -> dict[str, Any]:
    baseline = result.baseline
    return {
        "name": row.name,
        "package": row.package,
        "version": row.version,
        "kind": row.kind,
        "status": row.status,
        "error": row.error,
        "seconds": row.median if row.seconds else None,
        "middle_half": list(row.quartiles) if row.seconds else None,
        "samples": list(row.seconds),
        "ratio": statistics.median(ratios(row, baseline)) if row.seconds and baseline else None,
        "peak_bytes": row.peak,
        "note": row.note,
    }


def format_page(data: Mapping[str, Any], title: str = "The techniques beside their public implementations") -> str:
    """The page for the data of `results_to_dict`, with its `remarks` and `tables` (title, text, columns, lines)."""
    parts = [f"# {title}", _format_environment(data), *data.get("remarks", ()), data.get("how") or METHODOLOGY]
    for case in data["cases"]:
        parts += [f"## {case['title']}", f"{case['work']} Error: {case['truth']}; at most {case['tolerance']:g}."]
        parts.append(format_rows_table(case))
    for extra in data.get("tables", ()):
        parts += [f"## {extra['title']}", extra["text"], format_table(extra["columns"], extra["lines"])]
    targets = [(case["title"], target) for case in data["cases"] for target in case["targets"]]
    if targets:
        parts += ["## Targets", format_targets_table(targets)]
    return "\n\n".join(parts) + "\n"


def _format_environment(data: Mapping[str, Any]) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in data["machine"].items() if value is not None)
    packages = ", ".join(f"{name} {version or 'not installed'}" for name, version in data["packages"].items())
    return f"* {data['date']}: `{data['command']}`\n* {machine}\n* {packages}; source of paribus {data['code']}"


def format_rows_table(case: Mapping[str, Any]) -> str:
    """One case's implementations; empty columns are left out."""
    titles = ["implementation", "version", "error", "time", "middle half", "ratio", "images/s", "peak MiB", "note"]
    lines = [_format_cells(row, case["samples"]) for row in case["rows"]]
    used_columns = [i for i in range(len(titles)) if any(line[i] for line in lines)]
    return format_table([titles[i] for i in used_columns], [[line[i] for i in used_columns] for line in lines])


def _format_cells(row: Mapping[str, Any], samples: int) -> list[str]:
    name, version = f"`{row['name']}`", f"{row['package']} {row['version'] or ''}".strip()
    error = "" if row["error"] is None else f"{row['error']:.1e}"
    if row["seconds"] is None:
        note = ": ".join(part for part in (row["status"], row["note"]) if part)
        return [name, version, error, "", "", "", "", "", note]
    return [
        name,
        version,
        error,
        format_duration(row["seconds"]),
        "–".join(format_duration(bound) for bound in row["middle_half"]),
        "" if row["ratio"] is None else format_ratio(row["ratio"]),
        f"{samples / row['seconds']:,.0f}" if samples else "",
        "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:,.1f}",
        row["note"],
    ]


def format_targets_table(targets: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    return format_table(
        ["case", "target", "ratio of times", "asked", "status"],
        [
            [
                title,
                f"`{target['subject']}`: {target['target']}",
                "" if target["ratio"] is None else format_ratio(target["ratio"]),
                f"≤ {format_ratio(target['at_most'])}",
                target["status"],
            ]
            for title, target in targets
        ],
    )


def format_ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def format_table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    head = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    return "\n".join([*head, *("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)])
