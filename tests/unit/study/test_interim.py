"""Planned looks, made from values: which are made, what they decide, what runs next; their spec, record and report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.special import stdtrit
from scipy.stats import nct

from helpers.reports import invented, question
from helpers.studies import made_up_plan, row, written
from paribus.core.errors import ConfigError
from paribus.study.analysis.analysis import analyse, record_interim
from paribus.study.analysis.interim import Interims, compare_at_looks, cut_to, follow_looks, list_contradictions
from paribus.study.frozen import Frozen, Replaced, freeze_spec, parse_frozen, plain_frozen
from paribus.study.looks import RecordedInterim, add_look, looks_path, read_looks
from paribus.study.report.build import build_report
from paribus.study.report.changes import list_changes
from paribus.study.report.gate import run_checks
from paribus.study.report.publish import build_json
from paribus.study.report.sections_differences import format_beside
from paribus.study.rows import Row
from paribus.study.stats import Rule, SequentialPlan, compare_all, decide
from paribus.study.tuned import open_stage

PLAN = SequentialPlan(4, 4, 12)
RULE = Rule(margin=0.01)
SEEDS = tuple(range(12))
PAIRS = [("better", "base"), ("same", "base")]


def values(n: int, shift: float = 0.0, spread: float = 0.0) -> dict[int, float]:
    """Of the first n seeds; the difference from an arm without shift is shift ± spread, seed by seed."""
    return {seed: 0.9 + seed / 1000 + shift + (spread if seed % 2 else -spread) for seed in SEEDS[:n]}


def arms(n: int, **counts: int) -> dict[str, dict[int, float]]:
    """`better` is decided at the second look, `same` at none."""
    made = {"base": (0.0, 0.0), "better": (0.05, 0.02), "same": (0.004, 0.03)}
    return {name: values(counts.get(name, n), *how) for name, how in made.items()}


def rows(n: int, **counts: int) -> list[Row]:
    return [
        invented(arm, seed, metrics={"val/acc1": value})
        for arm, those in arms(n, **counts).items()
        for seed, value in those.items()
    ]


def follow(found: dict[str, dict[int, float]]) -> Interims:
    return follow_looks(found, PAIRS, RULE, PLAN, SEEDS)


def test_a_look_is_made_once_all_its_cells_have_ended() -> None:
    assert follow(arms(0)).made == ()
    assert follow(arms(4, same=3)).made == ()
    assert [one.number for one in follow(arms(4)).made] == [1]
    assert [one.number for one in follow(arms(7)).made] == [1]
    assert [len(one.seeds) for one in follow(arms(12)).made] == [4, 8, 12]


def test_an_arm_that_only_closed_comparisons_need_is_not_waited_for() -> None:
    stopped = follow(arms(8))
    assert [d.closed for d in stopped.decisions] == [True, False]
    assert {arm: len(seeds) for arm, seeds in stopped.needed.items()} == {"base": 12, "better": 8, "same": 12}
    assert [one.number for one in follow(arms(12, better=8)).made] == [1, 2, 3]
    assert [one.number for one in follow(arms(12, same=8)).made] == [1, 2]


def test_looks_are_those_of_decide_each_on_its_own_seeds() -> None:
    found = arms(12)
    before: Any = ()
    for number, count in enumerate(PLAN.looks, start=1):
        cut = {arm: {s: v for s, v in those.items() if s < count} for arm, those in found.items()}
        before = decide([c.estimate for c in compare_all(cut, PAIRS, RULE)], PLAN, RULE, look=number, before=before)
        assert follow(found).made[number - 1].decisions == before
    # the negative control: the numbers of all seeds would have been others at the first look
    late = decide([c.estimate for c in compare_all(found, PAIRS, RULE)], PLAN, RULE, look=1)
    assert late != follow(found).made[0].decisions


def test_a_failed_seed_ends_its_cell_and_takes_its_pair_along() -> None:
    found = arms(4)
    found["same"][2] = float("nan")
    assert [d.estimate.n for d in follow(found).decisions] == [4, 3]


def test_a_look_without_two_usable_seeds_waits() -> None:
    """Or whoever reads a report would put it on record, and its failed cells would not be run again."""
    nan = float("nan")
    found = arms(4)
    found["same"] |= {0: nan, 1: nan, 2: nan}
    waits = follow(found)
    assert (waits.made, waits.over, waits.needed["same"]) == ((), False, SEEDS[:4])
    found["same"][2] = 0.9
    assert [d.estimate.n for d in follow(found).decisions] == [4, 2]
    later = arms(12)  # the seeds of a comparison that is closed do not matter any more
    later["better"] |= dict.fromkeys(SEEDS[8:], nan)
    assert [one.number for one in follow(later).made] == [1, 2, 3]


def test_what_a_look_would_detect_is_at_its_own_level() -> None:
    found = arms(8)
    interims = follow(found)
    a = compare_at_looks(found, PAIRS, RULE, interims)
    for c, decision in zip(a, interims.decisions, strict=True):
        e, d = decision.estimate, c.judgement.minimum_detectable
        critical = -float(stdtrit(e.df, decision.level_zero / 2))
        power = float(nct.sf(critical, e.df, d / e.se) + nct.cdf(-critical, e.df, d / e.se))
        assert power == pytest.approx(0.8, abs=1e-3)
    fixed = compare_all({arm: cut_to(those, SEEDS[:8]) for arm, those in found.items()}, PAIRS, RULE)
    assert a[1].judgement.minimum_detectable > fixed[1].judgement.minimum_detectable  # of a study without looks


@pytest.mark.parametrize(
    ("p", "level", "shown"),
    [
        (0.00282, 0.00291, ("0.00282", "0.00291")),
        (0.01204, 0.01198, ("0.01204", "0.01198")),
        (5e-5, 1.47e-5, ("5.00e-5", "1.47e-5")),
        (float("nan"), 0.0123, ("–", "0.0123")),
        (0.02, 0.02, ("0.02", "0.02")),
    ],
)
def test_p_and_its_level_are_told_apart(p: float, level: float, shown: tuple[str, str]) -> None:
    assert format_beside(p, level) == shown


def test_it_is_over_when_all_is_decided_or_the_last_look_is_made() -> None:
    clear = {"base": values(4), "better": values(4, 0.05, 0.0001)}
    pairs = [("better", "base")]
    early = follow_looks(clear, pairs, RULE, PLAN, SEEDS)
    assert (early.over, early.all_decided, early.needed["base"]) == (True, True, SEEDS[:4])
    open_ = follow_looks({"base": values(12), "better": values(12, 0.01, 0.05)}, pairs, RULE, PLAN, SEEDS)
    assert (open_.over, open_.all_decided) == (True, False)
    assert not follow(arms(8)).over


def test_spec(tmp_path: Path) -> None:
    study = written(tmp_path, seeds={"first": 3, "more": 2, "most": 6, "start": 100})
    assert study.spec.seeds == (100, 101, 102, 103, 104, 105)
    frozen = freeze_spec(study.spec)
    assert parse_frozen(plain_frozen(frozen)) == frozen
    assert plain_frozen(frozen)["looks"] == {"first": 3, "more": 2, "most": 6, "spending": "obrien-fleming"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": {"first": 1, "more": 2, "most": 6}}, "seeds.first"),
        ({"seeds": {"first": 3, "more": 0, "most": 6}}, "seeds.more"),
        ({"seeds": {"first": 3, "more": 1}}, "seeds"),
        ({"seeds": {"first": 5, "more": 1, "most": 4}}, "seeds.most: found 4; should be 5"),
        ({"seeds": {"first": 3, "more": 1, "most": 4, "spending": "late"}}, "seeds.spending"),
        ({"seeds": {"first": 3, "more": 1, "mots": 4}}, "seeds"),
        ({"sequential": {"first": 3, "more": 1, "most": 4}}, "sequential: is no key"),
        ({"seeds": {"first": 3, "more": 1, "most": 4}, "factors": {"cutmix": ["cutmix"]}}, "factors: every arm"),
    ],
)
def test_mistakes_in_study_yaml_are_told_by_name(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        written(tmp_path, **changes)


def test_a_changed_plan_of_looks_is_told(tmp_path: Path) -> None:
    before = freeze_spec(written(tmp_path, seeds={"first": 3, "more": 1, "most": 6}).spec)
    after = freeze_spec(written(tmp_path, seeds={"first": 3, "more": 3, "most": 6}).spec)
    (told,) = list_changes([Replaced(before, 6, 6)], after)
    assert told.startswith("Planned looks changed from 3, then every 1 up to 6 (obrien-fleming) to 3, then every 3")
    assert list_changes([Replaced(before, 6, 6)], before) == ()


def asked(**changes: Any) -> Any:
    return question(["base", "better", "same"], SEEDS, sequential=PLAN, **changes)


def test_before_its_first_look_a_study_waits() -> None:
    """Pages about all studies leave it out: two seeds would stand there as a result."""
    assert analyse(asked(), rows(2)).is_waiting
    assert analyse(asked(), rows(4, same=3)).is_waiting
    assert not analyse(asked(), rows(4)).is_waiting
    assert not analyse(replace(asked(), sequential=None), rows(2)).is_waiting


def test_a_report_has_the_verdicts_of_the_looks_and_calls_its_intervals_repeated() -> None:
    a = analyse(asked(), rows(12, better=8))
    assert a.missing == ()
    report = build_report(a)
    assert report.title == "invented"
    assert "Decided at look 2 of 3" in report.verdicts[0].why
    assert all("repeated 95 % interval" in verdict.numbers for verdict in report.verdicts)
    (looks,) = (s for s in report.sections if s.key == "looks")
    assert [(r[0], r[1]) for r in looks.tables[0].rows] == [
        *(("1", "better"), ("1", "same"), ("2", "better"), ("2", "same"), ("3", "same"))
    ]
    assert ("Arms and seeds", "3 × up to 12, stopping where it is decided") in report.facts
    assert "interims" in build_json(a, report)


def test_without_planned_looks_a_report_has_no_trace_of_them() -> None:
    a = analyse(replace(asked(), sequential=None), rows(12))
    report = build_report(a)
    plain = build_json(a, report)
    assert "interims" not in plain
    assert "sequential" not in plain["asked"]
    assert all(section.key != "looks" for section in report.sections)
    assert all("repeated" not in verdict.numbers for verdict in report.verdicts)


def test_runs_beyond_the_look_that_decided_change_no_verdict() -> None:
    few = analyse(asked(), rows(12, better=8))
    more = analyse(asked(), rows(12))
    assert few.comparisons[0].comparison == more.comparisons[0].comparison
    assert few.arms["better"] != more.arms["better"]


def test_cells_of_the_next_look_are_missing_and_no_others() -> None:
    a = analyse(asked(), rows(8))
    assert a.missing == tuple(f"{arm}/s{s}" for arm in ("base", "same") for s in range(8, 12))
    assert analyse(asked(), rows(2)).comparisons[0].comparison.judgement.verdict == "undecided"


def test_before_the_first_look_nothing_is_said() -> None:
    a = analyse(asked(), rows(3))
    report = build_report(a)
    assert {v.kind for v in report.verdicts} == {"open"}
    assert any("no look was made yet" in remark for remark in report.remarks)
    assert record_interim(a) is None


@pytest.mark.parametrize(
    ("condition", "fails"),
    [
        ("worse", [False, False]),
        ("not-better", [False, True]),
        ("undecided", [False, True]),
        ("not-equivalent", [True, True]),
        ("maybe-worse", [False, True]),
    ],
)
def test_a_gate_goes_by_the_verdicts_of_the_looks(condition: str, fails: list[bool]) -> None:
    a = analyse(asked(), rows(12, better=8))
    assert [check.failed for check in run_checks(a, [condition], None)] == fails


def test_a_gate_takes_no_other_margin_than_the_looks_were_planned_for() -> None:
    a = analyse(asked(), rows(12, better=8))
    assert run_checks(a, ["maybe-worse", "not-equivalent"], 0.01)
    with pytest.raises(ConfigError, match="--margin: found 2 points"):
        run_checks(a, ["maybe-worse"], 0.02)


@pytest.mark.parametrize("condition", ["worse", "not-better"])
def test_looks_that_ask_about_zero_take_no_margin(condition: str) -> None:
    """Better by 0.4 points is not better by a point, and no claim of a look says which it is."""
    a = analyse(asked(), rows(12, better=8))
    with pytest.raises(ConfigError, match=f"for {condition} its looks ask whether the difference is 0"):
        run_checks(a, ["undecided", condition], 0.01)


@pytest.mark.parametrize("seeds", [0, 1])
@pytest.mark.parametrize("condition", ["worse", "not-better", "maybe-worse", "not-equivalent", "undecided"])
def test_before_the_first_look_too_few_seeds_pass_no_gate(condition: str, seeds: int) -> None:
    """One seed that is 20 points down, or none: nothing was shown, and nothing could be."""
    made = [
        invented(arm, s, metrics={"val/acc1": v}) for arm, v in (("base", 0.7), ("better", 0.5)) for s in SEEDS[:seeds]
    ]
    a = analyse(replace(asked(), pairs=PAIRS[:1]), made)
    (check,) = run_checks(a, [condition], None)
    assert check.failed
    assert check.why.startswith(f"cannot be tested: {seeds} usable seed")


def test_looks_are_recorded_and_a_look_that_comes_out_otherwise_is_told(tmp_path: Path) -> None:
    study = written(tmp_path, seeds={"first": 3, "more": 3, "most": 6})
    plan = made_up_plan(study)
    first = [row(cell, 0.5 + cell.seed / 1000) for cell in plan.cells if cell.seed < 3]
    a = analyse(replace(asked(), pairs=PAIRS[:1]), rows(8, same=0))
    add_look(study, first, record_interim(a))
    add_look(study, first, record_interim(a))
    assert looks_path(study).read_text().count("\n") == 1
    (look,) = read_looks(study)
    assert look.interim is not None
    assert (look.interim.number, look.interim.verdicts) == (2, {"better against base": "better"})
    assert a.interims is not None
    assert list_contradictions([look], a.interims, a.spec.pairs, look.frozen) == []
    swapped = [replace(r, arm={"base": "better", "better": "base"}[r.arm]) for r in rows(8, same=0)]
    worse = analyse(replace(asked(), pairs=PAIRS[:1]), swapped)
    assert worse.interims is not None
    (told,) = list_contradictions([look], worse.interims, worse.spec.pairs, look.frozen)
    assert told.startswith("Look 2 put on record that better against base is “better”; by the rows that are there now")
    assert "it is “worse”" in told
    opened = replace(look, interim=RecordedInterim(2, {}))
    (told,) = list_contradictions([opened], worse.interims, worse.spec.pairs, look.frozen)
    assert told.startswith("Look 2 left better against base open; by the rows that are there now it is “worse” at look")
    later = replace(look, interim=RecordedInterim(1, {}))  # it was open at the first look and is now as well
    assert list_contradictions([later], worse.interims, worse.spec.pairs, look.frozen) == []
    other = replace(look.frozen, smallest_effect=0.02)
    assert list_contradictions([look], worse.interims, worse.spec.pairs, other) == []


def test_frozen_without_looks_is_as_before(tmp_path: Path) -> None:
    frozen = freeze_spec(written(tmp_path).spec)
    assert isinstance(frozen, Frozen)
    assert "looks" not in plain_frozen(frozen)


def test_a_tuning_stage_has_no_looks(tmp_path: Path) -> None:
    """Else a larger `most` would change what its plan has frozen."""
    tune = {"space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}, "trials": 2, "seeds": 2}
    study = written(tmp_path, seeds={"first": 3, "more": 1, "most": 6}, tune=tune, settings=None)
    stage = open_stage(study)
    assert study.spec.sequential is not None
    assert freeze_spec(stage.spec).looks is None
    assert stage.spec.seeds == (100, 101)
