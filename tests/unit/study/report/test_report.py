"""The report: what it says of good and of broken studies, and that its files are whole, self-contained and repeatable.

`python tests/unit/study/report/test_report.py` records the golden Markdown again; look at the difference before you
commit it.
"""

import csv
import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))
from helpers.reports import STEPS, failed, invented, question, rows_for
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_number
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.analysis.question import AnalysisSpec
from paribus.study.report.build import build_report, choose_report_unit
from paribus.study.report.figures.curves import build_plots
from paribus.study.report.figures.style import shorten, spread_apart
from paribus.study.report.html import classify_cell, render_html, render_svgs
from paribus.study.report.markdown import BEGIN, END, build_readme, escape_markdown, format_markdown
from paribus.study.report.model import Report, Section
from paribus.study.report.publish import CSV, HTML, JSON, README, publish
from paribus.study.report.wording import choose_unit, format_p
from paribus.study.spec import PaperResult

GOLDEN = Path(__file__).parents[3] / "golden" / "report.md"
SAID = PaperResult(arm="cutmix", against="baseline", difference=0.022, source="arXiv 1905.04899, table 5")
LEVELS = {"baseline": 0.90, "cutmix": 0.92, "adamp": 0.9005, "both": 0.918}


def factorial_study() -> Analysis:
    """Four arms, six seeds, everything that a study can ask for."""
    factors = {"cutmix": ("cutmix", "both"), "adamp": ("adamp", "both")}
    asked = question(LEVELS, range(6), factors=factors, targets=(0.85, 0.912), paper=(SAID,))
    return analyse(asked, rows_for(LEVELS, range(6)))


def broken_study() -> Analysis:
    """A missing cell, failed ones, an arm that has nothing, a run with mixed segments, another torch on one seed."""
    levels = {"baseline": 0.9, "cutmix": 0.92, "adamp": 0.89, "unstable": 0.1}
    kept = [
        row for row in rows_for(levels, range(6)) if row.arm != "unstable" and row.cell not in ("cutmix/s3", "adamp/s2")
    ]
    kept = [replace(row, mixed=True, segments=2) if row.cell == "cutmix/s1" else row for row in kept]
    kept = [replace(r, fingerprint={**r.fingerprint, "torch": "2.11.0"}) if r.seed == 4 else r for r in kept]
    rows = [*kept, failed("adamp", 2, "out of memory\x07; use less"), *(failed("unstable", seed) for seed in range(6))]
    return analyse(question(levels, range(6)), rows)


def section(report: Report, key: str) -> Section:
    return next(section for section in report.sections if section.key == key)


def cells(report: Report, key: str, table: int = 0) -> dict[str, tuple[str, ...]]:
    """First cell of each row -> the others."""
    return {row[0]: row[1:] for row in section(report, key).tables[table].rows}


def page(analysis: Analysis) -> str:
    return render_html(build_report(analysis), render_svgs(build_plots(analysis, choose_report_unit(analysis))))


# what it says


def test_verdicts_come_first_and_in_plain_words() -> None:
    report = build_report(factorial_study())
    assert report.title == "invented"
    assert [(v.kind, v.said) for v in report.verdicts] == [
        ("better", "cutmix is better than baseline."),
        ("same", "adamp and baseline are equivalent: if they differ, then by less than 1 point."),
        ("better", "both is better than baseline."),
    ]
    assert report.verdicts[0].numbers.startswith("Difference +")
    assert "95 % interval" in report.verdicts[0].numbers


def test_the_sections_stand_in_their_order_and_those_without_content_are_left_out() -> None:
    everything = [s.key for s in build_report(factorial_study()).sections]
    assert everything == [
        "differences",
        "arms",
        "beside",
        "robustness",
        "curves",
        "cost",
        "targets",
        "factors",
        "paper",
        "overhead",
        "selection",
        "runs",
        "provenance",
        "overrides",
    ]
    plain = {s.key for s in build_report(analyse(question(LEVELS, range(2)), rows_for(LEVELS, range(2)))).sections}
    assert not plain & {"targets", "factors", "paper"}


def test_what_is_missing_failed_or_mixed_stands_in_the_title_and_is_named() -> None:
    report = build_report(broken_study())
    assert report.title == "invented: 1 of 24 runs missing, 7 failed, numerics mixed"
    told = "\n".join(report.cautions)
    for words in (
        "Missing: cutmix/s3.",
        "adamp/s2 (out of memory ; use less)",
        "unstable/s0, unstable/s1",
        "another fingerprint: cutmix/s1",
        "runs differ in torch (2.11.0, 2.15.0)",
    ):
        assert words in told
    assert report.verdicts[2].said == "unstable against baseline cannot be tested."
    runs = cells(report, "runs")
    assert runs["3"][1] == "missing"
    assert runs["2"][2] == "failed"
    assert runs["1"][1].endswith("*")
    assert cells(report, "arms")["adamp"][-1] == "2"


def test_rows_by_several_versions_of_a_users_package_are_marked() -> None:
    rows = rows_for({"baseline": 0.9, "cutmix": 0.9}, range(3))

    def made_by(*versions: str) -> Any:
        changed = [
            replace(row, fingerprint={**row.fingerprint, **({"packages": {"mine": v}} if v else {})})
            for row, v in zip(rows, versions, strict=True)
        ]
        return build_report(analyse(question(["baseline", "cutmix"], range(3)), changed))

    for same in ("a" * 6, ["a", "a", "a", "", "", ""], [""] * 6):  # an arm need not use the package
        report = made_by(*same)
        assert (report.title, report.cautions) == ("invented", ())
    report = made_by(*"aaaabb")
    assert report.title == "invented: sources mixed"
    (caution,) = report.cautions
    assert caution.startswith(
        "Rows were made by different versions of your package mine: a: baseline/s0, baseline/s1, baseline/s2, "
        "cutmix/s0; b: cutmix/s1, cutmix/s2."
    )
    (caution,) = made_by("a", "", "a", "", "", "").cautions
    assert "a: baseline/s0, baseline/s2; not on record: baseline/s1." in caution


@pytest.mark.parametrize("change", ["none", "fingerprint", "failed"])
def test_a_whole_study_has_a_plain_title_and_each_trouble_changes_it(change: str) -> None:
    rows = rows_for({"baseline": 0.9, "cutmix": 0.9}, range(3))
    if change == "fingerprint":
        rows[0] = replace(rows[0], fingerprint={**rows[0].fingerprint, "threads": 2})
    if change == "failed":
        rows[0] = failed("baseline", 0)
    title = build_report(analyse(question(["baseline", "cutmix"], range(3)), rows)).title
    assert (
        title == {"none": "invented", "fingerprint": "invented: numerics mixed", "failed": "invented: 1 failed"}[change]
    )


def test_a_run_that_is_done_without_the_metric_counts_as_failed() -> None:
    rows = rows_for({"baseline": 0.9, "cutmix": 0.9}, range(3))
    rows[1] = replace(rows[1], metrics={"val/loss": 1.0})
    report = build_report(analyse(question(["baseline", "cutmix"], range(3)), rows))
    assert report.troubles == ("1 failed",)
    assert "done, but has no val/acc1" in report.cautions[0]


def test_one_seed_has_means_and_no_verdict() -> None:
    report = build_report(
        analyse(question(["baseline", "cutmix"], [0]), rows_for({"baseline": 0.9, "cutmix": 0.92}, [0]))
    )
    assert report.verdicts[0].kind == "open"
    assert "Only one seed" in report.verdicts[0].numbers
    assert cells(report, "arms")["cutmix"][2] == "–"


def test_arms_without_shared_seeds_are_marked_unpaired() -> None:
    rows = [*rows_for({"baseline": 0.9}, range(5)), *rows_for({"cutmix": 0.93}, range(10, 16))]
    report = build_report(analyse(question(["baseline", "cutmix"], ()), rows))
    assert cells(report, "differences")["cutmix"][1] == "5, unpaired"
    assert "unpaired" in report.verdicts[0].numbers
    assert any("Welch" in note for note in section(report, "differences").notes)
    assert all(s.key != "robustness" for s in report.sections)


def test_runs_that_failed_or_never_arrived_are_not_dropped_from_the_time_to_a_target() -> None:
    levels = {"baseline": 0.92, "cutmix": 0.90}
    rows = [*rows_for(levels, range(5)), failed("cutmix", 5), invented("baseline", 5, 0.92)]
    analysis = analyse(question(levels, range(6), targets=(0.91,)), rows)
    (target,) = analysis.targets
    assert (target.arms["cutmix"].reached, target.arms["cutmix"].n, target.arms["cutmix"].missing) == (0, 5, (5,))
    assert target.horizon == STEPS
    assert cells(build_report(analysis), "targets")["cutmix"][:2] == ("0 of 5, 1 failed", "–")


# words


def test_accuracies_are_shown_in_per_cent_and_their_differences_in_points() -> None:
    unit = choose_unit("val/acc1", [])
    assert unit.value(0.97222) == "97.22"
    assert unit.difference(-0.005) == "−0.50"
    assert unit.size(0.01) == "1 point"
    other = choose_unit("val/loss", [0.004, 0.1])
    assert other.value(0.12345) == "0.12345"
    assert other.size(0.1) == "0.1"
    assert choose_unit("val/accordion", []).values == ""


def test_numbers_have_no_negative_zero_and_p_values_tell_on_which_side_of_the_level_they_are() -> None:
    assert format_number(-0.0001, 2, sign=True) == "0.00"
    assert format_number(float("nan"), 2) == "–"
    assert format_p(0.05006) == "0.05006"
    assert format_p(0.04996) == "0.04996"
    assert format_p(0.05) == "0.050"
    assert format_p(1e-9) == "< 0.0001"
    assert format_p(0.2) == "0.200"


def test_labels_are_moved_apart_and_keep_their_order() -> None:
    moved = spread_apart([5.0, 5.1, 40.0, 5.2], 10.0)
    assert sorted(moved) == [moved[0], moved[1], moved[3], moved[2]]
    assert moved[2] == 40.0
    assert all(b - a >= 10 - 1e-9 for a, b in zip(sorted(moved), sorted(moved)[1:], strict=False))
    assert len(shorten("a_very_long_name_of_an_arm_indeed", 18)) <= 18


def test_verdict_cells_are_coloured_and_others_are_not() -> None:
    assert (
        classify_cell("better"),
        classify_cell("undecided (about 2 more seeds)"),
        classify_cell("baseline"),
        classify_cell("0.9"),
    ) == (
        "better",
        "open",
        "",
        "",
    )


# Markdown


def test_the_markdown_is_the_golden_one() -> None:
    assert format_markdown(build_report(factorial_study())) == GOLDEN.read_text(encoding="utf-8")


def test_handwritten_text_around_the_markers_is_untouched() -> None:
    report, path = build_report(factorial_study()), Path("README.md")
    block = build_readme(report, None, path)
    assert block.startswith("# invented\n")
    assert block.count(BEGIN) == block.count(END) == 1
    mine = f"# Mine\n\nbefore *it*\n\n{BEGIN}\nwhat was there\n{END}\n\nafter | it\n"
    made = build_readme(report, mine, path)
    assert made.startswith("# Mine\n\nbefore *it*\n\n")
    assert made.endswith(f"{END}\n\nafter | it\n")
    assert "what was there" not in made
    assert build_readme(report, made, path) == made
    assert build_readme(report, "# Mine\n", path).startswith("# Mine\n\n<!-- paribus")


@pytest.mark.parametrize(
    "text", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}", f"{BEGIN}\n{BEGIN}\n{END}"]
)
def test_damaged_markers_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"README.md: the markers of the report are damaged: found .* line"):
        build_readme(build_report(factorial_study()), f"# Mine\n{text}\n", Path("README.md"))


def test_what_would_break_a_markdown_table_is_escaped() -> None:
    assert escape_markdown("a|b\n*c* <d>") == r"a\|b \*c\* \<d\>"


# HTML


class _Page(HTMLParser):
    VOID = frozenset({"meta", "br", "wbr", "link", "img", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(key, value or "") for key, value in attrs]
        self.ids += [value or "" for key, value in attrs if key == "id"]


@pytest.fixture(scope="module")
def pages() -> Mapping[str, str]:
    return {"whole": page(factorial_study()), "broken": page(broken_study())}


@pytest.mark.parametrize("name", ["whole", "broken"])
def test_the_page_is_well_formed_and_loads_nothing(pages: Mapping[str, str], name: str) -> None:
    text = pages[name]
    parser = _Page()
    parser.feed(text)
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    loading = [
        (key, value) for key, value in parser.attributes if key in ("src", "href", "xlink:href", "data", "srcset")
    ]
    assert loading
    assert all(value.startswith("#") for _, value in loading)
    assert not re.search(r"@import|<script|<link|<iframe|url\((?!#)", text)
    used = set(re.findall(r"url\(#([\w-]+)\)", text)) | {value[1:] for key, value in loading}
    assert used <= set(parser.ids)
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


def test_drawings_take_their_colours_from_the_page(pages: Mapping[str, str]) -> None:
    drawings = re.findall(r"<svg.*?</svg>", pages["whole"], re.DOTALL)
    assert len(drawings) >= 10
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert not re.search(r"#[0-9a-f]{6}", re.sub(r'(?:href="#|url\(#)[^")]*', "", drawing)), "a colour of its own"
        assert "var(--" in drawing
        assert 'aria-label="' in drawing
    defined = set(re.findall(r"(--[\w-]+):", pages["whole"]))
    assert set(re.findall(r"var\((--[\w-]+)\)", pages["whole"])) <= defined


def test_names_cannot_break_out_of_the_page() -> None:
    rows = [invented(arm, seed, 0.9) for arm in ("baseline", "<b>&x") for seed in range(2)]
    asked = question(["baseline", "<b>&x"], range(2), question="<script>alert(1)</script>", name="$a$ & <i>")
    text = page(analyse(asked, rows))
    assert "<script" not in text
    assert "<b>&x" not in text
    assert "&lt;script&gt;" in text
    parser = _Page()
    parser.feed(text)
    assert parser.open == []


@pytest.mark.parametrize(
    "changes",
    [{"metric": "val/loss", "higher_is_better": False}, {"margin": 0.0}, {"targets": (0.99,)}, {"paper": (SAID,)}],
)
def test_other_questions_are_drawn_without_complaint(changes: dict[str, object]) -> None:
    asked = question(["baseline", "cutmix"], range(3), **changes)
    assert "<svg" in page(analyse(asked, rows_for({"baseline": 0.9, "cutmix": 0.91}, range(3), points=1)))


def test_a_study_of_failures_alone_still_has_a_report() -> None:
    text = page(analyse(question(["baseline", "cutmix"], range(2)), [failed("baseline", 0)]))
    assert "3 of 4 runs missing, 1 failed" in text


# files


def written(folder: Path, analysis: Analysis) -> dict[str, bytes]:
    publish(folder, analysis, build_report(analysis))
    return {name: (folder / name).read_bytes() for name in (README, HTML, CSV, JSON)}


def test_the_same_rows_give_the_same_bytes_and_other_rows_do_not(tmp_path: Path) -> None:
    first = written(tmp_path, factorial_study())
    assert written(tmp_path, factorial_study()) == first
    rows = list(factorial_study().rows)
    rows[0] = replace(rows[0], metrics={**rows[0].metrics, "val/acc1": rows[0].metrics["val/acc1"] - 0.01})
    other = written(tmp_path, analyse(factorial_study().spec, rows))
    assert all(other[name] != first[name] for name in first)


def test_csv_and_json_hold_every_bit(tmp_path: Path) -> None:
    analysis = broken_study()
    files = written(tmp_path, analysis)
    table = list(csv.DictReader(files[CSV].decode().splitlines()))
    assert len(table) == len(analysis.rows)
    for line, row in zip(table, analysis.rows, strict=True):
        assert (line["arm"], int(line["seed"]), line["state"]) == (row.arm, row.seed, row.state)
        assert line["val/acc1"] == (repr(row.metrics["val/acc1"]) if row.state == "done" else "")
    content = json.loads(files[JSON])
    assert content["schema"] == 1
    estimate = content["comparisons"][0]["comparison"]["estimate"]
    assert estimate["mean"] == analysis.comparisons[0].comparison.estimate.mean
    assert content["comparisons"][2]["comparison"]["estimate"]["mean"] is None
    assert content["report"]["title"] == build_report(analysis).title


@pytest.mark.parametrize("name", [README, HTML])
def test_a_write_protected_file_stops_it_before_anything_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    (tmp_path / name).chmod(0o444)
    with pytest.raises(ConfigError, match="write-protected; nothing was written"):
        written(tmp_path, factorial_study())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_damaged_markers_stop_it_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / README).write_text(f"mine\n{END}\n")
    with pytest.raises(ConfigError, match="markers"):
        written(tmp_path, factorial_study())
    assert [path.name for path in tmp_path.iterdir()] == [README]
    assert (tmp_path / README).read_text() == f"mine\n{END}\n"


def test_a_thousand_runs_take_less_than_fifteen_seconds(tmp_path: Path) -> None:
    levels = {"baseline": 0.9, **{f"arm_{i}": 0.9 + i / 1000 for i in range(1, 8)}}
    asked: AnalysisSpec = question(levels, range(125), targets=(0.85,))
    rows = rows_for(levels, range(125), points=20)
    assert len(rows) == 1000
    began = time.process_time()
    written(tmp_path, analyse(asked, rows))
    took = time.process_time() - began
    print(f"report of 1,000 runs: {took:.1f} s")
    assert took < 15


def test_a_single_evaluation_is_no_curve_and_lengths_of_weights_have_a_section() -> None:
    rows = rows_for({"a": 0.8, "b": 0.9}, range(3), points=1)
    found = analyse(question(["a", "b"], range(3)), rows)
    assert not any(found.curves["val/acc1"].values())
    assert not any(found.gaps["a"].values())
    assert not any(bias.n for bias in found.bias.values()), "best and last are one"
    lengths = {"weights/norm": [[1, 2.0], [2, 3.0], [4, 4.0]], "weights/step": [[1, 0.5], [2, 0.25], [4, 0.0]]}
    rows = [replace(row, curves={**row.curves, **lengths}) for row in rows]
    sections = {s.key: s for s in build_report(analyse(question(["a", "b"], range(3)), rows)).sections}
    assert sections["weights"].tables[0].rows[0] == ("a", "2.00", "3.00", "4.00", "0.500", "0.250")
    assert "curves" not in sections or not any("weights" in key for key in sections["curves"].figures)


if __name__ == "__main__":
    GOLDEN.write_text(format_markdown(build_report(factorial_study())), encoding="utf-8")
