"""`paribus list`: what there is to choose from, and the runs under a folder. Needs no torch."""

from pathlib import Path

from paribus.cli.configs import options
from paribus.core import runfolder
from paribus.core.errors import ConfigError

_GROUPS = {
    "techniques": "technique",
    "models": "model",
    "experiments": "experiment",
    "data": "data",
    "optimizers": "optimizer",
    "schedules": "schedule",
}
USAGE = f"usage: paribus list {'|'.join(_GROUPS)} | paribus list runs [FOLDER]"


def run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    what, rest = arguments[0], arguments[1:]
    if what == "runs" and len(rest) <= 1:
        return _runs(Path(rest[0] if rest else "runs"))
    if what not in _GROUPS or rest:
        raise ConfigError(f"list {' '.join(arguments)}: nothing of this kind; {USAGE}")
    found = options(_GROUPS[what])
    width = max(len(name) for name in found)
    for name, headline in found.items():
        print(f"{name:<{width}}  {headline}".rstrip())
    return 0


def _runs(folder: Path) -> int:
    rows = [("run", "state", "step", "val acc1", "train s")]
    for path in sorted(folder.glob("*/")):
        if not (path / runfolder.CONFIG).is_file():
            continue
        summary = runfolder.read_json(path / runfolder.SUMMARY)
        metrics = summary.get("metrics", {})
        state = runfolder.state(path) or "not finished"
        step = f"{summary['step']}/{summary['steps']}" if summary else "?"
        rows.append(
            (
                path.name,
                state,
                step,
                f"{metrics['val/acc1']:.2%}" if "val/acc1" in metrics else "",
                f"{metrics['time/train_s']:.1f}" if "time/train_s" in metrics else "",
            )
        )
    if len(rows) == 1:
        print(f"no runs under {folder}")
        return 0
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nunder {folder.resolve()}")
    return 0
