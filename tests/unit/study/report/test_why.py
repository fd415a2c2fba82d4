"""What stands beside a verdict: what more seeds would do, what the setting cannot show, who was still learning."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from helpers.reports import failed, invented, question, rows_for
from helpers.studies import made_up_plan, written
from paribus.cli.main import dispatch
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.analysis.learning import UNMIXED_LOSS
from paribus.study.analysis.question import build_analysis_spec
from paribus.study.plan import read_plan
from paribus.study.report.build import build_report
from paribus.study.report.html import render_html
from paribus.study.report.markdown import format_markdown
from paribus.study.report.publish import build_json
from paribus.study.report.results_table import format_results_table
from paribus.study.report.wording import FALSE_AFTER_EIGHT_LOOKS, LOOKING_AGAIN
from paribus.study.rows import Row, update_rows
from paribus.study.stats.power import power_of_difference, power_of_equivalence, seeds_to_decide

LIMITS = "whether it pays in a longer schedule."


def renderings(a: Analysis) -> dict[str, str]:
    report = build_report(a)
    return {
        "Markdown": format_markdown(report),
        "HTML": unescape(render_html(report, {})),
        "JSON": json.dumps(build_json(a, report), ensure_ascii=False),
    }


# more seeds


def apart_by(differences: Sequence[float], arms: Sequence[str] = ("baseline", "cutmix"), **changes: Any) -> Analysis:
    first, *others = arms
    values = {first: [0.9] * len(differences), **{arm: [0.9 + d for d in differences] for arm in others}}
    rows = [
        invented(arm, seed, metrics={changes.get("metric", "val/acc1"): value})
        for arm, those in values.items()
        for seed, value in enumerate(those)
    ]
    return analyse(question(arms, range(len(differences)), **changes), rows)


UNDECIDED = (0.02, -0.01, 0.012, -0.004, 0.008)


def test_more_seeds_are_a_chance_under_two_truths() -> None:
    a = apart_by(UNDECIDED)
    (c,) = (x.comparison for x in a.comparisons)
    k = c.judgement.more_seeds
    assert k is not None
    said = build_report(a).verdicts[0].numbers
    assert said.endswith(
        f"With about {k} more seeds ({5 + k} in all), chances are 80 % that a true difference of 1 point is found, and "
        "80 % that one of 0 is called equivalent; of one in between this says nothing."
    )
    assert "would decide" not in said
    # and that is so
    n, sd = 5 + k, c.estimate.sd
    assert n == seeds_to_decide(0.01, sd=sd)
    chances = (power_of_difference(0.01, n, sd=sd), power_of_equivalence(0.01, n, sd=sd))
    assert min(chances) >= 0.8 > min(power_of_difference(0.01, n - 1, sd=sd), power_of_equivalence(0.01, n - 1, sd=sd))


def test_the_chances_hold_too_where_the_seeds_for_them_are_there() -> None:
    """Then k is what leaves no outcome undecided, which is more than 80 %."""
    spread = [0.0195 * math.sqrt(40 / 39) * (-1) ** i for i in range(40)]
    a = apart_by([d + 0.0061 for d in spread])
    (c,) = (x.comparison for x in a.comparisons)
    assert c.judgement.more_seeds is not None
    sd, n = c.estimate.sd, c.estimate.n + c.judgement.more_seeds
    assert seeds_to_decide(0.01, sd=sd) <= c.estimate.n
    assert min(power_of_difference(0.01, n, sd=sd), power_of_equivalence(0.01, n, sd=sd)) > 0.8
    assert f"({n} in all), chances are 80 %" in build_report(a).verdicts[0].numbers


def test_equal_differences_promise_nothing_but_themselves() -> None:
    said = build_report(apart_by([0.004] * 3)).verdicts[0].numbers
    assert said.endswith("With about 3 more seeds (6 in all), and if those come out equal too, it would be decided.")
    assert "80 %" not in said


@pytest.mark.parametrize(
    ("differences", "changes"), [((0.02, 0.021, 0.019, 0.02, 0.0205), {}), (UNDECIDED, {"margin": 0.0})]
)
def test_where_no_seeds_are_named_nothing_is_said_of_looking_again(
    differences: Sequence[float], changes: dict[str, Any]
) -> None:
    a = apart_by(differences, **changes)
    assert build_report(a).remarks == ()
    assert not any("more seed" in text or "17 %" in text for text in renderings(a).values())


def test_that_looking_again_is_not_free_stands_once_beside_all_verdicts() -> None:
    a = apart_by(UNDECIDED, ["baseline", "cutmix", "adamp"])
    assert build_report(a).remarks == (LOOKING_AGAIN,)
    for name, text in renderings(a).items():
        assert text.count(LOOKING_AGAIN) == 1, name


def test_effects_that_are_undecided_say_what_more_seeds_mean_too() -> None:
    """All differences of arms are clear here, and the interaction alone is not."""
    runs = {"none": (0.0, 0.0), "p": (0.05, 0.02), "q": (0.05, -0.03), "both": (0.1, 0.3)}
    rows = [
        invented(arm, seed, metrics={"val/acc1": 0.8 + level + share * d})
        for arm, (level, share) in runs.items()
        for seed, d in enumerate(UNDECIDED)
    ]
    a = analyse(question(runs, range(5), factors={"P": ("p", "both"), "Q": ("q", "both")}, margin=0.002), rows)
    assert [str(effect.judgement).partition(" (")[0] for effect in a.effects] == ["better", "better", "undecided"]
    report = build_report(a)
    assert not any("more seed" in verdict.numbers for verdict in report.verdicts)
    assert report.remarks == (LOOKING_AGAIN,)
    (section,) = (s for s in report.sections if s.key == "factors")
    assert "About k more seeds: with them, chances are 80 % that a true effect of 0.2 points" in section.notes[0]


def test_the_figure_is_the_measured_one() -> None:
    """Measured by tests/unit/study/stats/test_simulation.py, and the same in every place that quotes it."""
    assert f"said in {100 * FALSE_AFTER_EIGHT_LOOKS:.0f} % of studies" in LOOKING_AGAIN
    root = Path(__file__).parents[4]
    for page in ("docs/results.md", "docs/statistics.md"):
        text = " ".join((root / page).read_text().split())
        assert re.search(rf"every seed from 3 to 10.{{1,120}} {100 * FALSE_AFTER_EIGHT_LOOKS:.0f} %", text), page


def test_a_loss_has_its_own_unit() -> None:
    a = apart_by([10 * d for d in UNDECIDED], metric="val/loss", higher_is_better=False, margin=0.1)
    assert "a true difference of 0.1 is found" in build_report(a).verdicts[0].numbers


# limits


def test_the_limits_of_a_setting_stand_in_every_rendering() -> None:
    levels = {"baseline": 0.9, "cutmix": 0.8}
    asked = question(levels, range(6), limits=LIMITS)
    a = analyse(asked, rows_for(levels, range(6)))
    for name, text in renderings(a).items():
        assert f"What this setting cannot show: {LIMITS}" in text, name
    assert build_json(a, build_report(a))["asked"]["limits"] == LIMITS
    assert f" Cannot show: {LIMITS}" in format_results_table([a])
    without = analyse(replace(asked, limits=""), a.rows)
    assert not any("cannot show" in text for text in renderings(without).values())
    assert "Cannot show" not in format_results_table([without])


def test_limits_are_read_from_the_study_and_change_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(tmp_path / "experiments" / "s", seeds=3)
    plan = made_up_plan(before)
    update_rows(before, [invented(c.arm, c.seed, 0.9, id=c.id, study="s") for c in plan.cells], plan.ids())
    rows = before.results_path.read_bytes()
    study = written(before.folder, seeds=3, limits=LIMITS)
    assert build_analysis_spec(study).limits == LIMITS
    assert read_plan(study.plan_path) == plan
    monkeypatch.chdir(tmp_path)
    assert dispatch(["study", "report", str(study.folder)]) == 0
    assert f"\nWhat this setting cannot show: {LIMITS}\n" in capsys.readouterr().out
    assert study.results_path.read_bytes() == rows


def test_every_committed_study_says_what_it_cannot_show() -> None:
    found = sorted((Path(__file__).parents[4] / "experiments").glob("*/study.yaml"))
    assert found
    for path in found:
        assert re.search(r"^limits: \"[a-z].*\.\"$", path.read_text(), re.MULTILINE), path


# still learning


def with_losses(losses: Mapping[str, Sequence[float | None]], **changes: Any) -> Analysis:
    """Runs of these arms with these losses on unmixed training images; None: not measured."""
    rows: list[Row] = []
    for arm, those in losses.items():
        for seed, loss in enumerate(those):
            row = invented(arm, seed, 0.9 if arm == "baseline" else 0.88)
            measured = {} if loss is None else {UNMIXED_LOSS: loss}
            rows.append(replace(row, metrics={**row.metrics, **measured}))
    return analyse(question(losses, range(6), **changes), rows)


BASELINE = (0.20, 0.21, 0.19, 0.20, 0.22, 0.18)
HIGH = (0.80, 0.82, 0.78, 0.81, 0.79, 0.80)
SAID = "cutmix was still learning: its loss on unmixed training images was 0.80, the baseline's 0.20."


def test_an_arm_with_a_far_higher_loss_was_still_learning() -> None:
    a = with_losses({"baseline": BASELINE, "cutmix": HIGH})
    (verdict,) = build_report(a).verdicts
    assert verdict.said == "cutmix is worse than baseline."
    assert verdict.why == SAID
    for name, text in renderings(a).items():
        assert text.count(SAID) == 1, name
    (found,) = build_json(a, build_report(a))["still_learning"]
    assert (found["arm"], found["baseline"], found["n"]) == ("cutmix", "baseline", 6)
    assert found["loss"] == pytest.approx(0.80)
    assert found["baseline_loss"] == pytest.approx(0.20)
    assert 0.5 < found["low"] < 0.6 < found["high"] < 0.7
    table = format_results_table([a])
    assert "Still learning at the end, by the loss on unmixed training images: cutmix against baseline." in table


@pytest.mark.parametrize(
    "losses",
    [
        {"baseline": BASELINE, "cutmix": [None] * 6},
        {"baseline": [None] * 6, "cutmix": HIGH},
        {"baseline": BASELINE, "cutmix": [loss + 0.01 for loss in BASELINE]},  # higher, not far
        {"baseline": BASELINE, "cutmix": [0.29, 0.30, 0.28, 0.29, 0.30, 0.29]},  # below half as much again
        {"baseline": BASELINE, "cutmix": [0.2, 0.1, 0.2, 3.0, 0.2, 0.2]},  # one run alone, and the interval holds 0
        {"baseline": [0.001] * 6, "cutmix": [0.05, 0.06, 0.05, 0.06, 0.05, 0.06]},  # both are learnt
        {"baseline": HIGH, "cutmix": BASELINE},  # the baseline's is the higher one
        {"baseline": BASELINE[:1], "cutmix": HIGH[:1]},  # one seed
        {"baseline": BASELINE, "cutmix": [math.inf] * 6},
    ],
)
def test_else_nothing_is_said(losses: Mapping[str, Sequence[float | None]]) -> None:
    a = with_losses(losses)
    assert a.still_learning == ()
    assert [verdict.why for verdict in build_report(a).verdicts] == [""]
    assert not any("still learning" in text for text in renderings(a).values())
    assert "Still learning" not in format_results_table([a])


def test_without_any_such_loss_the_report_is_what_it_was() -> None:
    levels = {"baseline": 0.9, "cutmix": 0.8}
    a = analyse(question(levels, range(6)), rows_for(levels, range(6)))
    assert a.still_learning == ()
    assert UNMIXED_LOSS not in format_markdown(build_report(a))


def test_each_arm_is_held_against_its_own_baseline() -> None:
    pairs = (("cutmix", "baseline"), ("mixup", "cutmix"), ("adamp", "baseline"))
    losses = {"baseline": BASELINE, "cutmix": HIGH, "mixup": HIGH, "adamp": BASELINE}
    report = build_report(with_losses(losses, pairs=pairs))
    assert [verdict.why for verdict in report.verdicts] == [SAID, "", ""]


def test_only_seeds_that_both_have_enter() -> None:
    a = with_losses({"baseline": BASELINE, "cutmix": (*HIGH[:4], None, None)})
    (found,) = a.still_learning
    assert found.n == 4
    assert found.baseline_loss == pytest.approx(0.20)
    b = analyse(a.spec, [row for row in a.rows if row.cell != "cutmix/s0"] + [failed("cutmix", 0)])
    assert b.still_learning[0].n == 3


def test_a_run_that_logged_it_has_its_curve_in_the_report() -> None:
    rows = [
        replace(row, curves={**row.curves, UNMIXED_LOSS: [[s, v + 0.1] for s, v in row.curves["val/loss"]]})
        for row in rows_for({"baseline": 0.9, "cutmix": 0.88}, range(3))
    ]
    a = analyse(question(["baseline", "cutmix"], range(3)), rows)
    (section,) = (s for s in build_report(a).sections if s.key == "curves")
    assert f"curve {UNMIXED_LOSS}" in section.figures
    assert f"{UNMIXED_LOSS} compares arms" in section.notes[0]


def test_the_terminal_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path / "s", seeds=6, limits=LIMITS)
    plan = made_up_plan(study)
    losses = {"baseline": BASELINE, "cutmix": HIGH}
    rows = [invented(c.arm, c.seed, 0.9, id=c.id, study="s") for c in plan.cells]
    rows = [replace(r, metrics={**r.metrics, UNMIXED_LOSS: losses[r.arm][r.seed]}) for r in rows]
    update_rows(study, rows, plan.ids())
    assert dispatch(["study", "report", str(study.folder), "--runs", str(tmp_path / "runs")]) == 0
    assert f"\n  {SAID}\n" in capsys.readouterr().out
