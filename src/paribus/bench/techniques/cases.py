"""The comparisons of each technique, and running them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from paribus.bench.harness.implementation import Case, Scope, Unavailable
from paribus.bench.harness.measure import Result, measure
from paribus.bench.techniques import any_technique, mixing, networks, optimizers

CASES: dict[str, Callable[[Scope], Iterator[Case]]] = {
    "cutmix": partial(mixing.cases, "cutmix"),
    "mixup": partial(mixing.cases, "mixup"),
    "adamp": partial(optimizers.cases, "adamp"),
    "sgdp": partial(optimizers.cases, "sgdp"),
    "rexnet": partial(networks.cases, "rexnet"),
    "pit": partial(networks.cases, "pit"),
}


@dataclass(frozen=True)
class Effort:
    """rounds: samples of each implementation. min_seconds: the shortest duration of a sample."""

    rounds: int
    min_seconds: float


QUICK, FULL = Effort(5, 0.01), Effort(15, 0.02)


def run(
    names: Sequence[str], scope: Scope, effort: Effort, log: Callable[[str], None], config_dir: Path | None = None
) -> list[Result]:
    """All comparisons of these techniques, one after the other; `log` is called with a line before each. Of a technique
    that has no public implementation, a step with it beside one without. config_dir: of the user's own configs."""
    results: list[Result] = []
    for name in names:
        try:
            for case in CASES[name](scope) if name in CASES else any_technique.cases(name, config_dir, scope):
                log(case.title)
                results.append(measure(case, scope.device, effort.rounds, effort.min_seconds))
        except Unavailable as unavailable:  # no case can be made, e.g. without timm for ResNet-18's shapes
            log(f"{name}: left out, what it needs is {unavailable.status}")
    return results
