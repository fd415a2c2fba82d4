"""The list of trials: distinct, the same everywhere, even over the space, equal for arms with equal spaces."""

import math
import random

import numpy as np
import pytest

from paribus.core.errors import ConfigError
from paribus.study.tuning.space import Interval, ListedValues
from paribus.study.tuning.trials import DEFAULT, list_trials, name_cell_arm, split_cell_arm

LR = Interval(kind="log_uniform", low=1e-4, high=1e-2)
DECAY = ListedValues(options=(0.0, 0.01, 0.1))
BOTH = {"optimizer.lr": LR, "optimizer.weight_decay": DECAY}


def test_the_list_is_on_record() -> None:
    """Plans depend on it: should a newer SciPy draw another one, studies that are half tuned would be refused."""
    assert [trial.overrides for trial in list_trials(BOTH, 4)] == [
        (),
        ("optimizer.lr=0.00027", "optimizer.weight_decay=0.01"),
        ("optimizer.lr=0.0027", "optimizer.weight_decay=0.1"),
        ("optimizer.lr=0.000854", "optimizer.weight_decay=0.0"),
        ("optimizer.lr=0.00854", "optimizer.weight_decay=0.01"),
    ]


def test_no_global_state_has_a_part_in_it() -> None:
    expected = list_trials(BOTH, 20)
    before = np.random.get_state()  # noqa: NPY002 — it is this state that must not matter
    try:
        np.random.seed(7)  # noqa: NPY002
        random.seed(7)
        assert list_trials(BOTH, 20) == expected
        assert np.random.random() == np.random.RandomState(7).random_sample()  # noqa: NPY002 — nor be used up
    finally:
        np.random.set_state(before)  # noqa: NPY002


@pytest.mark.parametrize("trials", [1, 2, 7, 12, 40, 300])
def test_trials_are_distinct_and_counted(trials: int) -> None:
    found = list_trials(BOTH, trials)
    assert [found[0].name, found[0].settings] == [DEFAULT, {}]
    assert len({trial.overrides for trial in found[1:]}) == len(found) - 1 == trials
    assert [trial.name for trial in found[1:3]] == ["t01", "t02"][:trials]
    assert len({trial.name for trial in found}) == len(found)


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    assert list_trials(BOTH, 40)[:13] == list_trials(BOTH, 12)


def test_values_stay_in_their_ranges_and_cover_them() -> None:
    found = [trial.settings["optimizer.lr"] for trial in list_trials(BOTH, 16)[1:]]
    assert all(isinstance(v, float) and 1e-4 <= v <= 1e-2 for v in found)
    shares = sorted(math.log(float(v) / 1e-4) / math.log(100) for v in found)  # type: ignore[arg-type]
    gaps = [b - a for a, b in zip([0.0, *shares], [*shares, 1.0], strict=True)]
    assert max(gaps) < 2.5 / 16, "random numbers leave a gap of that size in most lists"
    decays = [trial.settings["optimizer.weight_decay"] for trial in list_trials(BOTH, 12)[1:]]
    assert {decays.count(v) for v in (0.0, 0.01, 0.1)} == {4}


def test_a_logarithmic_axis_is_not_a_linear_one() -> None:
    linear = {"optimizer.lr": Interval(kind="uniform", low=1e-4, high=1e-2)}
    log = {"optimizer.lr": LR}
    below = [sum(float(t.settings["optimizer.lr"]) < 1e-3 for t in list_trials(s, 20)[1:]) for s in (log, linear)]  # type: ignore[arg-type]
    assert below == [10, 2]


def test_equal_spaces_have_equal_lists_and_further_keys_change_no_other() -> None:
    assert list_trials(dict(BOTH), 12) == list_trials(BOTH, 12)
    wider = list_trials({**BOTH, "optimizer.delta": Interval(kind="uniform", low=0.0, high=1.0)}, 12)
    assert [t.overrides[:2] for t in wider[1:]] == [t.overrides for t in list_trials(BOTH, 12)[1:]]
    other = list_trials({**BOTH, "optimizer.lr": Interval(kind="log_uniform", low=1e-4, high=1e-1)}, 12)
    assert other != list_trials(BOTH, 12)


def test_a_space_may_be_tried_out_whole_but_no_further() -> None:
    grid = {"a": DECAY, "b": Interval(kind="integers", low=1, high=3)}
    assert len(list_trials(grid, 9)) == 10
    with pytest.raises(ConfigError, match=r"tune.trials: found 10; the space has 9 settings"):
        list_trials(grid, 10)


def test_a_range_of_few_rounded_values_runs_out_too() -> None:
    narrow = {"a": Interval(kind="uniform", low=1.0, high=1.02)}
    assert sorted(float(t.settings["a"]) for t in list_trials(narrow, 3)[1:]) == [1.0, 1.01, 1.02]  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"only 3 distinct settings of three digits"):
        list_trials(narrow, 4)


def test_the_name_of_a_trial_leads_back_to_its_arm() -> None:
    assert name_cell_arm("adam.w", "t03") == "adam.w.t03"
    assert split_cell_arm("adam.w.t03") == ("adam.w", "t03")
