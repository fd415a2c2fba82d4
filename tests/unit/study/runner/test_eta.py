"""How long cells take: what was seen here before what is on record."""

from pathlib import Path

from helpers.studies import made_up_plan, row, written
from paribus.study.runner.eta import START_S, Pace


def test_the_pace_is_what_was_seen_here_before_what_is_on_record(tmp_path: Path) -> None:
    made = made_up_plan(written(tmp_path))
    assert Pace().left({"baseline": 1}, [], 2) is None
    pace = Pace([row(made.cells[0]), row(made.cells[1], cost={"train_s": 9.0, "eval_s": 1.0})])
    assert pace.of("baseline") == START_S + 9
    assert pace.of("cutmix") == START_S + 9, "nothing of its own yet"
    assert pace.left({"baseline": 4}, [], 2) == 2 * (START_S + 9)
    pace.saw("cutmix", 20.0)
    assert pace.of("cutmix") == 20
    assert pace.of("baseline") == START_S + 9
    assert pace.left({"cutmix": 1}, [("cutmix", 5.0)], 2) == 20, "never less than the longest cell"
    assert pace.left({}, [("cutmix", 50.0)], 2) == 0
    pace.saw("baseline", 2 * (START_S + 9))
    assert pace.of("baseline") == 2 * (START_S + 9)
    slower = Pace([row(made.cells[0]), row(made.cells[2])])
    slower.saw("baseline", 2 * (START_S + 8))
    assert slower.of("cutmix") == 2 * (START_S + 8), "half as fast as on record"
