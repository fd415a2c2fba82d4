"""What a study's rows amount to, before it is put into words."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.reports import STEPS, invented, question, rows_for
from paribus.study.analysis.analysis import analyse

LEVELS = {"baseline": 0.90, "cutmix": 0.92, "adamp": 0.9005, "both": 0.918}


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = rows_for(LEVELS, range(4))
    asked = question(LEVELS, range(4))
    # their text: from Python 3.13 on, dataclasses that hold NaN are never equal
    assert repr(analyse(asked, rows)) == repr(analyse(asked, rows[::-1]))


def test_overhead_is_the_ratio_of_training_times_on_equal_seeds() -> None:
    times = {"baseline": (10.0, 20.0, 40.0), "cutmix": (11.0, 22.0, 44.0)}
    rows = [
        invented(arm, seed, cost={**invented(arm, seed).cost, "train_s": seconds[seed]})
        for arm, seconds in times.items()
        for seed in range(3)
    ]
    (found,) = analyse(question(times, range(3)), rows).overheads
    assert found.ratio == pytest.approx(1.1)
    assert found.paired
    assert found.n == 3


def test_bands_hold_only_steps_that_every_run_of_an_arm_has() -> None:
    rows = rows_for({"baseline": 0.9, "cutmix": 0.92}, range(3))
    short_run = dict(rows[0].curves)
    short_run["val/acc1"] = short_run["val/acc1"][2:]
    analysis = analyse(question(["baseline", "cutmix"], range(3)), [replace(rows[0], curves=short_run), *rows[1:]])
    bands = analysis.curves["val/acc1"]
    assert len(bands["cutmix"].steps) == 10
    assert bands["baseline"].steps == bands["cutmix"].steps[2:]
    assert bands["cutmix"].steps[-1] == STEPS
    last = analysis.gaps["baseline"]["cutmix"]
    e = analysis.comparisons[0].comparison.estimate
    assert (last.mean[-1], last.low[-1], last.high[-1]) == pytest.approx((e.mean, e.low, e.high))


def test_arms_may_differ_in_their_optimizer_and_runs_of_one_arm_may_not() -> None:
    def fingerprints(of: str) -> dict[str, Any]:
        return {"fingerprint": {"torch": "2.15.0", "optimizer": of}}

    rows = [invented(arm, seed, **fingerprints(arm)) for arm in ("adamw", "adamp") for seed in range(3)]
    assert analyse(question(["adamw", "adamp"], range(3)), rows).numerics == {}
    rows[0] = invented("adamw", 0, **fingerprints("adamw fused"))
    assert analyse(question(["adamw", "adamp"], range(3)), rows).numerics == {"optimizer": ("adamw", "adamw fused")}


def test_runs_of_two_processors_are_told() -> None:
    def made_on(cpu: str | None, gpu: str | None = None) -> list[Any]:
        hardware = [{"cpu": name, "cores": 2, "gpu": gpu} for name in ("AMD EPYC", "AMD EPYC", cpu)]
        rows = [invented(arm, seed, hardware=hardware[seed]) for arm in ("adamw", "adamp") for seed in range(3)]
        return [analyse(question(["adamw", "adamp"], range(3)), rows).numerics.get("processor")]

    assert made_on("Intel Xeon") == [("AMD EPYC", "Intel Xeon")]
    assert made_on("AMD EPYC") == made_on(None) == made_on("Intel Xeon", "H200") == [None]
