"""The noise floor in a report: the line, the section, the numbers for programs; without one not a byte of it."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.reports import question, rows_for
from paribus.cli.study.report import find_changes
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.analysis.noise import NoiseFloor, measure_noise
from paribus.study.load import load_study
from paribus.study.report.build import build_report, choose_report_unit
from paribus.study.report.markdown import FIGURE, build_readme, format_markdown
from paribus.study.report.model import Section
from paribus.study.report.publish import build_json, format_csv
from paribus.study.report.sections_noise import FALSE_VERDICTS, choose_noise_unit, make_section
from paribus.study.report.study_figure import draw_study_figure
from paribus.study.results import analyse_rows
from paribus.study.rows import read_rows
from paribus.study.stats import Rule

ROOT = Path(__file__).parents[4]
APART = {seed: 0.96 + 0.01 * (seed >= 5) + 0.001 * (seed % 5) for seed in range(10)}
NEAR = {seed: 0.96 + 0.002 * ((3 * seed) % 5) for seed in range(10)}


def floor(values: dict[int, float] = NEAR, margin: float = 0.01, **changes: str) -> NoiseFloor:
    return measure_noise("baseline", "val/acc1", values, range(10), Rule(margin=margin), planned=6, **changes)


def study(noise: NoiseFloor | None) -> Analysis:
    levels = {"baseline": 0.9, "cutmix": 0.92}
    return replace(analyse(question(levels, range(6)), rows_for(levels, range(6))), noise=noise)


def section(noise: NoiseFloor) -> Section | None:
    return next((s for s in build_report(study(noise)).sections if s.key == "noise"), None)


def fact(noise: NoiseFloor) -> str:
    return dict(build_report(study(noise)).facts)["Noise floor"]


def test_the_line_says_what_the_seeds_of_this_study_can_see() -> None:
    found = floor()
    assert found.planned is not None
    assert fact(found) == (
        "two halves of 5 runs of baseline differ by 0.00 points; sd 0.30 points; 6 seeds an arm find a true difference "
        f"of {100 * found.planned.unpaired:.2f} points in 80 % of studies (unpaired)"
    )


def test_the_section_has_the_table_and_says_what_it_takes_for_granted() -> None:
    found = section(floor())
    assert found is not None
    assert found.short
    assert [r[0] for r in found.tables[0].rows] == ["2", "3", "5", "6", "8", "10", "20", "30"]
    text = " ".join(found.notes)
    assert "on seeds 0 to 9: 96.40 % over 5 runs and 96.40 % over 5 runs, difference 0.00 points" in text
    assert "The halves are equivalent within 1 point, as they should be." in text
    assert FALSE_VERDICTS in text
    assert "do not correlate" in text
    assert "pairing correlation" in text
    assert "1 point, the smallest effect of interest: " in text


def test_a_false_verdict_is_called_false() -> None:
    found = section(floor(APART))
    assert found is not None
    assert "The first half is called worse, which is false." in found.notes[0]


def test_without_a_margin_equivalence_is_not_mentioned() -> None:
    notes = make_section(
        floor({s: v + 0.001 * (s < 5) for s, v in NEAR.items()}, 0.0), choose_noise_unit(floor())
    ).notes
    assert "equivalent" not in " ".join(notes)
    assert "No difference between the halves is shown, as it should be." in notes[0]
    assert "smallest effect" not in " ".join(notes)


def test_another_recipe_gives_no_number() -> None:
    stale = floor(changed="optimizer.lr was 0.1, is 0.2")
    assert section(stale) is None
    assert fact(stale) == (
        "measured of another recipe of baseline than that of these runs (optimizer.lr was 0.1, is 0.2), so it is not "
        "told"
    )


def test_too_few_runs_and_runs_without_spread_are_said() -> None:
    few = floor({seed: NEAR[seed] for seed in (0, 1, 2)})
    assert fact(few) == "3 of 10 runs of baseline against itself are there"
    assert section(few) is None
    equal = floor(dict.fromkeys(range(10), 0.97))
    assert fact(equal) == "10 runs of baseline came out equal"
    found = section(equal)
    assert found is not None
    assert not found.tables
    failed = section(floor(NEAR | {7: math.nan}))
    assert failed is not None
    assert "Failed: s7." in failed.notes
    assert "halves of 5 and 4 runs" in fact(floor(NEAR | {7: math.nan}))


def test_a_loss_is_told_in_its_own_unit() -> None:
    values = {seed: 0.5 + 0.01 * ((3 * seed) % 5) for seed in range(10)}
    noise = measure_noise("baseline", "val/loss", values, range(10), Rule(higher_is_better=False))
    text = " ".join(make_section(noise, choose_noise_unit(noise)).notes)
    assert "points" not in text
    assert "%" not in text.replace("95 %", "").replace("80 %", "")


def test_a_report_without_one_has_no_word_of_it() -> None:
    a = study(None)
    report = build_report(a)
    assert "noise" not in format_markdown(report).lower()
    assert "noise" not in json.dumps(build_json(a, report)).lower()
    other = study(floor())
    with_it = build_report(other)
    assert build_json(other, with_it)["noise"]["runs"]["n"] == 10
    assert with_it.verdicts == report.verdicts
    assert format_csv(other) == format_csv(a)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / "experiments").glob("*/results.jsonl")))
def test_readmes_on_record_come_out_as_they_are(name: str) -> None:
    folder = ROOT / "experiments" / name
    recorded = load_study(folder)
    rows = read_rows(recorded.results_path)
    a = analyse_rows(recorded, rows)
    before, figure = (folder / "README.md").read_text(), draw_study_figure(a)
    report = build_report(a, find_changes(recorded, rows, a))
    assert build_readme(report, before, folder / "README.md", bool(figure)) == before
    assert not figure or (folder / FIGURE).read_text() == figure


def test_twin_a_noise_floor_changes_the_readme(tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    shutil.copytree(ROOT / "experiments" / "quickstart", folder)
    recorded = load_study(folder)
    a = replace(analyse_rows(recorded, read_rows(recorded.results_path)), noise=floor())
    before = (folder / "README.md").read_text()
    text = build_readme(build_report(a), before, folder / "README.md", shows_figure=True)
    assert text != before
    assert "* Noise floor: two halves" in text
    assert choose_report_unit(a).differences == "points"
