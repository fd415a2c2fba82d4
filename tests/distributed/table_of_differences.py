"""How far several gloo processes end from one: prints the table of docs/reliability.md.

python tests/distributed/table_of_differences.py SEEDS
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.worlds import WORLDS, furthest, together

CASES = {  # of a net without BatchNorm and dropout; with GroupNorm AdamP has scale-invariant weights to project
    "baseline": ("technique=baseline",),
    "CutMix": ("technique=cutmix",),
    "CutMix and AdamP, GroupNorm": ("technique=[cutmix,adamp]", "model.norm=group"),
}


def differences(case: str, precision: str, seed: int) -> list[float]:
    """How far 2 processes, 4 processes, and one process in float64 end from one process, after 50 steps."""
    overrides = [f"update.precision={precision}", "update.accumulate=2", f"seed={seed}", *CASES[case]]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        one = together(folder / "1", 1, *overrides)
        several = [together(folder / str(n), n, *overrides) for n in WORLDS]
        exact = together(folder / "exact", 1, *overrides, "update.precision=fp64")
    return [*(furthest(one, other) for other in several), furthest(exact, one)]


def table(seeds: range) -> str:
    """Over these seeds the median and the largest of each difference."""
    lines = [
        f"| case ({len(seeds)} seeds) | precision | 2 processes | 4 processes | one process, float64 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        for precision in ("fp64", "fp32"):
            found = [differences(case, precision, seed) for seed in seeds]
            columns = [sorted(column) for column in zip(*found, strict=True)]
            cells = [f"{column[len(column) // 2]:.1e} (at most {column[-1]:.1e})" for column in columns]
            lines.append(f"| {case} | {precision} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(range(int(sys.argv[1]) if len(sys.argv) > 1 else 5)))
