"""What stopping early costs and saves: the tables of docs/statistics.md, "Stopping when it is decided".

    python scripts/sequential_seeds.py                                   # 20,000 studies a figure, half a minute
    python scripts/sequential_seeds.py --plans 6,3,24 --comparisons 2    # another plan: first, more, most

Prints Markdown. Every figure is simulated (src/paribus/study/stats/sequential_seeds.py) and the same in every run. The
spread of a paired difference is such that with `most` seeds and no early look a true difference of the margin's size is
found with --power by a test at 0.05 / number of comparisons, so the plans are as large as they should be, not larger.
"""

import argparse
import math

from paribus.study.stats.power import minimum_detectable
from paribus.study.stats.sequential import SequentialPlan
from paribus.study.stats.sequential_seeds import SimulatedStudies, simulate

TRUTHS = {"0": 0.0, "half the margin": 0.5, "the margin": 1.0, "twice the margin": 2.0}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plans", nargs="+", default=["5,5,30", "4,2,20"], help="first,more,most")
    parser.add_argument("--comparisons", type=int, nargs="+", default=[1, 3, 6])
    parser.add_argument("--spending", choices=["obrien-fleming", "pocock"], default="obrien-fleming")
    parser.add_argument("--power", type=float, default=0.85, help="of the fixed design at the margin")
    parser.add_argument("--studies", type=int, default=20_000)
    return parser.parse_args()


def simulated(
    plan: SequentialPlan, truth: float, m: int, options: argparse.Namespace, margin: float = 1.0
) -> SimulatedStudies:
    """Studies in which every comparison has this true difference, in margins."""
    return simulate(plan, [truth] * m, sd=spread(plan, m, options.power), margin=margin, studies=options.studies)


def spread(plan: SequentialPlan, m: int, power: float) -> float:
    """The sd of a paired difference, in margins, with which `most` seeds have this power at the margin."""
    return 1 / minimum_detectable(1 / math.sqrt(plan.most), plan.most - 1, alpha=plan.alpha / m, power=power)


def print_errors(plans: list[SequentialPlan], options: argparse.Namespace) -> None:
    print("\n| looks at | comparisons | better or worse, truth 0 | equivalent, truth the margin |", end=" ")
    print("interval holds at the stop (at every look) | mean where better is said (fixed) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for plan in plans:
        for m in options.comparisons:
            null = simulated(plan, 0.0, m, options, margin=1e-9)  # without a margin no study stops for equivalence
            edge = simulated(plan, 1.0, m, options)
            fixed = simulated(SequentialPlan(plan.most, 1, plan.most), 1.0, m, options)
            shares = (null.differs.any(1), edge.negligible.any(1))
            held = f"{edge.covered.mean():.1%} ({edge.always_covered.mean():.1%})"
            means = "{:.2f} ({:.2f})".format(*(s.mean[s.differs].mean() for s in (edge, fixed)))
            line = f"| {named(plan)} | {m} | {' | '.join(f'{s.mean():.1%}' for s in shares)} | {held} | {means} |"
            print(line.replace("%", " %"))


def print_seeds(plans: list[SequentialPlan], options: argparse.Namespace) -> None:
    print(f"\n| looks at | comparisons | sd | {' | '.join(f'truth {name}' for name in TRUTHS)} |", end="")
    print(" study over, truth twice the margin |")
    print(f"| --- | --- | --- |{' --- |' * len(TRUTHS)} --- |")
    for plan in plans:
        fixed = SequentialPlan(plan.most, 1, plan.most)
        for m in options.comparisons:
            cells = []
            for truth in TRUTHS.values():
                cells.append(told(*(simulated(p, truth, m, options) for p in (plan, fixed))))
            last = simulated(plan, 2.0, m, options).seeds.max(1).mean()
            print(f"| {named(plan)} | {m} | {spread(plan, m, options.power):.2f} | {' | '.join(cells)} | {last:.1f} |")


def told(studies: SimulatedStudies, fixed: SimulatedStudies) -> str:
    return f"{studies.seeds.mean():.1f} ({studies.closed.mean():.0%}, {fixed.closed.mean():.0%})".replace("%", " %")


def named(plan: SequentialPlan) -> str:
    looks = plan.looks
    return f"{looks[0]}, {looks[1]}, …, {looks[-1]}" if len(looks) > 2 else ", ".join(map(str, looks))


if __name__ == "__main__":
    chosen = arguments()
    listed = [SequentialPlan(*map(int, p.split(",")), spending=chosen.spending) for p in chosen.plans]
    print(f"{chosen.studies:,} studies a figure, {chosen.spending} spending")
    print_errors(listed, chosen)
    print_seeds(listed, chosen)
