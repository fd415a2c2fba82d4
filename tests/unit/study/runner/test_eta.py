"""How long cells take: what was seen here before what is on record."""

from pathlib import Path

from helpers.studies import made_up_plan, row, written
from paribus.study.runner.eta import START_S, EtaEstimator


def test_the_pace_is_what_was_seen_here_before_what_is_on_record(tmp_path: Path) -> None:
    made = made_up_plan(written(tmp_path))
    assert EtaEstimator().seconds_left({"baseline": 1}, [], 2) is None
    pace = EtaEstimator([row(made.cells[0]), row(made.cells[1], cost={"train_s": 9.0, "eval_s": 1.0})])
    assert pace.estimate_cell("baseline") == START_S + 9
    assert pace.estimate_cell("cutmix") == START_S + 9, "nothing of its own yet"
    assert pace.seconds_left({"baseline": 4}, [], 2) == 2 * (START_S + 9)
    pace.add_seconds("cutmix", 20.0)
    assert pace.estimate_cell("cutmix") == 20
    assert pace.estimate_cell("baseline") == START_S + 9
    assert pace.seconds_left({"cutmix": 1}, [("cutmix", 5.0)], 2) == 20, "never less than the longest cell"
    assert pace.seconds_left({}, [("cutmix", 50.0)], 2) == 0
    pace.add_seconds("baseline", 2 * (START_S + 9))
    assert pace.estimate_cell("baseline") == 2 * (START_S + 9)
    slower = EtaEstimator([row(made.cells[0]), row(made.cells[2])])
    slower.add_seconds("baseline", 2 * (START_S + 8))
    assert slower.estimate_cell("cutmix") == 2 * (START_S + 8), "half as fast as on record"
