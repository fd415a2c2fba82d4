"""`tune:` in a study.yaml: what it may say, and one line for everything that it may not."""

from pathlib import Path
from typing import Any

import pytest

from helpers.studies import written
from paribus.core.errors import ConfigError
from paribus.study.load import load_study
from paribus.study.spec import Study, Tuned
from paribus.study.tuning.space import Interval, ListedValues, TuneSpec, find_edge, format_value, pick

LR = {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}}
TUNE: dict[str, Any] = {"space": LR, "trials": 3}


def tuning(folder: Path, changes: dict[str, Any] | None = None, **study: Any) -> Study:
    """A study that tunes; changes: of its tune:, None takes a key out."""
    tune = {key: value for key, value in {**TUNE, **(changes or {})}.items() if value is not None}
    return written(folder, **{"settings": None, "tune": tune, **study})


def parsed(folder: Path, changes: dict[str, Any] | None = None, **study: Any) -> TuneSpec:
    found = tuning(folder, changes, **study).spec.tune
    assert found is not None
    return found


def test_two_whole_numbers_are_two_options_and_have_no_edge() -> None:
    two, three = (Interval(kind="integers", low=1, high=high) for high in (2, 3))
    assert find_edge(two, 1) == find_edge(two, 2) == ""
    assert (find_edge(three, 1), find_edge(three, 2), find_edge(three, 3)) == ("smallest", "", "largest")


def test_what_is_left_out_has_a_meaning(tmp_path: Path) -> None:
    tune = parsed(tmp_path)
    interval = Interval(kind="log_uniform", low=1e-4, high=1e-2)
    assert tune.spaces == {"baseline": {"optimizer.lr": interval}, "cutmix": {"optimizer.lr": interval}}
    assert (tune.trials, tune.metric, tune.higher_is_better) == (3, "minival/acc1", True)
    assert tune.seeds == (100, 101, 102), "above the study's, and still so when that is given more"


@pytest.mark.parametrize(("study", "first"), [(2, 100), (100, 100), (101, 200), ([5, 250], 300)])
def test_the_tunings_own_seeds_are_never_the_studys(study: Any, first: int, tmp_path: Path) -> None:
    tune = parsed(tmp_path, {"seeds": 2}, seeds=study)
    assert tune.seeds == (first, first + 1)


def test_an_arm_may_search_further_keys_and_other_ranges(tmp_path: Path) -> None:
    own = {"optimizer.delta": {"uniform": [0, 1]}, "optimizer.lr": {"choices": [0.1, 0.2, 0.3]}}
    tune = parsed(tmp_path, {"arms": {"cutmix": own}})
    assert list(tune.spaces["baseline"]) == ["optimizer.lr"]
    assert list(tune.spaces["cutmix"]) == ["optimizer.lr", "optimizer.delta"]
    assert tune.spaces["cutmix"]["optimizer.lr"] == ListedValues(options=(0.1, 0.2, 0.3))


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path) -> None:
    space = {"a": {"log_uniform": ["1e-4", "1e-2"]}, "b": {"choices": ["1e-3", "cosine", True, None, 2]}}
    tune = parsed(tmp_path, {"space": space})
    assert tune.spaces["baseline"]["a"] == Interval(kind="log_uniform", low=1e-4, high=1e-2)
    assert tune.spaces["baseline"]["b"] == ListedValues(options=(0.001, "cosine", True, None, 2))


def test_settings_are_worded_from_the_stage_or_by_the_author(tmp_path: Path) -> None:
    worded = tuning(tmp_path).spec.settings
    assert isinstance(worded, Tuned)
    assert worded.tuned == (
        "with equal budgets: 3 trials × 3 seeds for each arm on minival, beside its default settings; best median "
        "minival/acc1; optimizer.lr: 0.0001 to 0.01 (logarithmic)"
    )
    assert tuning(tmp_path, settings={"tuned": "as I say"}).spec.settings == Tuned(tuned="as I say")


def test_a_study_without_it_tunes_nothing(tmp_path: Path) -> None:
    assert written(tmp_path).spec.tune is None


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"trails": 3}, "tune.trails: no such key (did you mean trials?)"),
    ({"space": None}, "tune.space: missing"),
    ({"space": {}}, "tune.space: found {}; should be keys and values"),
    ({"space": ["optimizer.lr"]}, "tune.space: found ('optimizer.lr',)"),
    ({"space": {"optimizer.lr": 0.1}}, "tune.space.optimizer.lr: found 0.1; should be one of log_uniform"),
    ({"space": {"optimizer.lr": {"loguniform": [1, 2]}}}, "(did you mean log_uniform"),
    ({"space": {"lr": {"uniform": [1, 2], "choices": [1, 2]}}}, "tune.space.lr: found {"),
    ({"space": {"lr": {"uniform": [1]}}}, "tune.space.lr.uniform: found (1,); should be two numbers"),
    ({"space": {"lr": {"uniform": [1, "x"]}}}, "tune.space.lr.uniform.1: found 'x'; should be a number"),
    ({"space": {"lr": {"uniform": [1, True]}}}, "tune.space.lr.uniform.1: found True; should be a number"),
    ({"space": {"lr": {"uniform": [1, float("inf")]}}}, "tune.space.lr.uniform.1: found inf"),
    ({"space": {"lr": {"uniform": [2, 2]}}}, "tune.space.lr.uniform: found 2 and 2; the first should be the smaller"),
    ({"space": {"lr": {"log_uniform": [0, 1]}}}, "tune.space.lr.log_uniform.0: found 0; a logarithmic range should"),
    ({"space": {"n": {"integers": [1, 2.5]}}}, "tune.space.n.integers: found 1 and 2.5; should be whole numbers"),
    ({"space": {"lr": {"choices": [1]}}}, "tune.space.lr.choices: found (1,); should be a list of two values or more"),
    ({"space": {"lr": {"choices": [1, [2]]}}}, "tune.space.lr.choices.1: found (2,); should be a number, true"),
    ({"space": {"lr": {"choices": [1, 2, 1]}}}, "tune.space.lr.choices.2: 1 is listed twice"),
    ({"space": {"+x": {"choices": [1, 2]}}}, "tune.space: found '+x'; a key of the config is needed, without +"),
    ({"space": {"seed": {"choices": [1, 2, 3]}}}, "tune.space.seed: a study sets this by seeds"),
    ({"space": {"data.minival": {"choices": [1, 2, 3]}}}, "tune.space.data.minival: changes what is measured"),
    ({"space": {"evaluators.a.b": {"choices": [1, 2, 3]}}}, "tune.space.evaluators.a.b: changes what is measured"),
    ({"space": {"lr": {"choices": [1, 2]}}}, "tune.trials: found 3; the space of baseline has only 2 settings"),
    ({"arms": {"cutmax": LR}}, "tune.arms: found cutmax (did you mean cutmix?); the arms are baseline, cutmix"),
    ({"space": None, "arms": {"cutmix": LR}}, "tune.arms: nothing is searched for baseline"),
    ({"arms": {"cutmix": {"lr": 1}}}, "tune.arms.cutmix.lr: found 1; should be one of"),
    ({"trials": None}, "tune.trials: missing"),
    ({"trials": 0}, "tune.trials: found 0"),
    ({"trials": True}, "tune.trials: found True"),
    ({"seeds": 0}, "tune.seeds: found 0; should be at least one seed"),
    ({"seeds": "3"}, "tune.seeds: found '3'; should be a number of seeds, or a list of them"),
    ({"seeds": [7, 7]}, "tune.seeds: 7 is listed twice"),
    ({"seeds": [7, 1]}, "tune.seeds: 1 is a seed of the study"),
    ({"metric": "val/loss"}, "tune.metric: found val/loss; the study is judged on val, so choose by another split"),
    ({"metric": "minival"}, "tune.metric: found 'minival'; should be split/name, e.g. minival/acc1"),
    ({"metric": "minival/loss"}, "tune.higher_is_better: missing; minival/loss is another metric than the study's"),
    ({"metric": "minival/loss", "higher_is_better": 1}, "tune.higher_is_better: found 1; should be true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), MISTAKES, ids=[told[:50] for _, told in MISTAKES])
def test_a_mistake_is_one_line_that_names_the_key(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        tuning(tmp_path, changes)
    assert str(refused.value).startswith(f"{tmp_path / 'study.yaml'}: ")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("settings", "found"), [("paper", "paper"), ({"untuned": "guessed"}, "untuned")])
def test_settings_that_contradict_are_refused(settings: Any, found: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"settings: found {found}; a study with tune:"):
        tuning(tmp_path, settings=settings)


@pytest.mark.parametrize("tune", [None, [], 3])
def test_an_empty_tune_is_refused(tune: Any, tmp_path: Path) -> None:
    written(tmp_path, settings=None, tune=TUNE)
    text = (tmp_path / "study.yaml").read_text()
    text = text.partition("tune:")[0]
    (tmp_path / "study.yaml").write_text(f"{text}tune: {'' if tune is None else tune}\n")
    with pytest.raises(ConfigError, match=r"tune: found"):
        load_study(tmp_path)


LOG = Interval(kind="log_uniform", low=1e-4, high=1e-2)
FLAT = Interval(kind="uniform", low=0.0, high=2.0)
WHOLE = Interval(kind="integers", low=2, high=4)


def test_a_share_of_an_axis_is_a_value_on_its_own_scale() -> None:
    assert pick(LOG, 0.5) == 0.001
    assert pick(FLAT, 0.5) == 1.0
    assert [pick(WHOLE, share) for share in (0.0, 0.34, 0.67, 0.999999)] == [2, 3, 4, 4]
    assert [pick(ListedValues(options=("a", "b")), share) for share in (0.0, 0.499, 0.5, 0.999)] == ["a", "a", "b", "b"]
    assert pick(LOG, 1 / 3) == 0.000464, "three digits"


def test_rounding_never_leaves_the_range() -> None:
    narrow = Interval(kind="uniform", low=0.12345, high=0.12355)
    assert {pick(narrow, share / 10) for share in range(10)} <= {0.12345, 0.12355}


@pytest.mark.parametrize(
    ("axis", "value", "end"),
    [
        (LOG, 0.0098, "largest"),
        (LOG, 0.0075, ""),  # within 5 % of the end on a linear scale would be above 0.0095: here it is 0.0079
        (LOG, 0.00012, "smallest"),
        (LOG, 0.0006, ""),  # 5 % of the linear range from its lower end
        (LOG, 0.5, "largest"),  # a default beyond the space
        (LOG, 0.0, "smallest"),
        (FLAT, 0.1, "smallest"),
        (FLAT, 0.11, ""),
        (FLAT, 1.9, "largest"),
        (WHOLE, 3, ""),
        (WHOLE, 4, "largest"),
        (ListedValues(options=(0.0, 0.01, 0.1)), 0.1, "largest"),
        (ListedValues(options=(0.0, 0.01, 0.1)), 0.01, ""),
        (ListedValues(options=(0.1, 0.01, 0.0)), 0.0, "smallest"),
        (ListedValues(options=(0.01, 0.1, 0.0)), 0.1, ""),  # in no order
        (ListedValues(options=(0.0, 0.1)), 0.1, ""),  # each of two is an end
        (ListedValues(options=("a", "b", "c")), "c", ""),
        (ListedValues(options=(1, 2, "c")), 1, ""),
        (ListedValues(options=(True, False, None)), True, ""),
    ],
)
def test_the_edge_is_told_on_the_axes_own_scale(axis: Interval | ListedValues, value: object, end: str) -> None:
    assert find_edge(axis, value) == end


def test_values_are_written_as_overrides_take_them() -> None:
    assert [format_value(v) for v in (1e-5, 5.0, 3, True, None, "cosine")] == [
        "1e-05", "5.0", "3", "true", "null", "cosine"
    ]  # fmt: skip
