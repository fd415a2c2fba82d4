"""Measures every case on the fake device, in minutes, and prints what differs from ceilings.json and what waits.

--write: also writes ceilings.json and the table in docs/cuda.md. --missing: the same for cases that are not there yet,
leaving the others as they are. A case's words instead: measures that one alone.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch

from fake_cuda.cases import all_cases, parse
from fake_cuda.hooks import why_not_here
from fake_cuda.steps import measure
from fake_cuda.table import CEILINGS, PAGE, Costs, read_ceilings, to_costs, to_text, torch_version, with_table


def main(arguments: list[str]) -> int:
    if (reason := why_not_here()) is not None:
        print(reason, file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    write = arguments in (["--write"], ["--missing"])
    known = read_ceilings() if CEILINGS.exists() else {"cases": {}, "waits": {}}
    before = known["cases"]
    kept = before if arguments == ["--missing"] else {}
    costs: dict[str, Costs] = {}
    waits: dict[str, int] = {text: n for text, n in known["waits"].items() if text in kept}
    for case in all_cases() if write or not arguments else [parse(" ".join(arguments))]:
        if str(case) in kept:
            costs[str(case)] = kept[str(case)]
            continue
        began = time.perf_counter()
        counts = measure(case)
        costs[str(case)] = found = to_costs(counts)
        told = counts["batch"].waits + counts["step"].waits  # a step has transforms and optimizer inside
        if told:
            waits[str(case)] = len(told)
        old = {part: tuple(cost) for part, cost in before.get(str(case), {}).items()}
        changed = "" if old == found else f": {old} → {found}"
        print(f"{case} ({time.perf_counter() - began:.1f} s){changed}", *told, sep="\n    waits: ", flush=True)
    if write:
        made = {"torch": torch_version(), "waits": waits, "cases": costs}
        CEILINGS.write_text(to_text(made))
        PAGE.write_text(with_table(PAGE.read_text(), read_ceilings()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
