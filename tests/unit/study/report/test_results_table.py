"""The README's table of results: made from rows alone, one row a claim, and noticed when it says something else."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.reports import invented, question, rows_for
from paribus.cli.main import dispatch
from paribus.cli.results import analyse_study
from paribus.core.errors import ConfigError
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.report.results_table import RESULTS_TABLE, build_claims, format_results_table
from paribus.study.spec import PaperResult

ROOT = Path(__file__).parents[4]
MARKED = f"# top\n\n<!-- paribus results: begin quickstart. Written. -->\n{RESULTS_TABLE.end}\n\nrest\n"


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


def compared(**changes: object) -> Analysis:
    rows = rows_for({"a": 0.8, "b": 0.9}, range(6))
    return analyse(question(["a", "b"], range(6), name="study_one", **changes), rows)


def test_a_row_says_what_was_changed_claimed_and_found() -> None:
    claim = PaperResult(arm="b", against="a", difference=0.02, source="a paper")
    a = compared(words={("b", "a"): "B for A"}, paper=(claim,), setting="ten images")
    table = format_results_table([a])
    head, _, row = cells(table)
    estimate = a.comparisons[0].comparison.estimate
    assert head[0] == "what was changed"
    assert row[0] == "B for A"
    assert row[1] == "+2.00: a paper"
    assert row[2] == f"{100 * estimate.mean:+.2f} points"
    assert row[4:5] + row[6:] == [
        "6",
        "better",
        r"[study\_one](experiments/study_one): `paribus study run experiments/study_one --repeat`",
    ]
    assert row[5].startswith("× ")
    assert "ten images; 12 runs" in table
    assert "missing" not in table
    assert "other sign" not in table
    lower = replace(claim, difference=-0.02)
    assert "Opposite sign to the paper: B for A (better)." in format_results_table(
        [compared(words={("b", "a"): "B for A"}, paper=(lower,))]
    )


def test_a_metric_that_is_not_accuracy_is_named() -> None:
    a = compared(words={("b", "a"): "B for A"})
    other = replace(a, spec=replace(a.spec, metric="val/deo_max", higher_is_better=False))
    assert cells(format_results_table([other]))[2][0] == r"B for A, val/deo\_max ↓"


def test_without_words_or_claim_the_arms_speak_and_a_gap_is_told() -> None:
    rows = rows_for({"a": 0.9, "b": 0.9}, range(3))
    table = format_results_table([analyse(question(["a", "b"], range(4)), rows)])
    assert cells(table)[2][:2] == ["b against a", "–"]
    assert "**2 runs missing or failed.**" in table


def test_a_factorial_study_shows_effects_in_place_of_comparisons() -> None:
    arms = ["none", "p", "q", "both"]
    factors = {"P": ("p", "both"), "Q": ("q", "both")}
    rows = [invented(arm, seed) for arm in arms for seed in range(4)]
    table = format_results_table([analyse(question(arms, range(4), factors=factors), rows)])
    assert [row[0] for row in cells(table)[2:]] == [
        "P, averaged over the other off and on",
        "Q, averaged over the other off and on",
        "P × Q, interaction",
    ]


def test_a_claim_knows_which_techniques_it_is_about() -> None:
    arms = {
        "none": (),
        "p": ("technique=[rexnet,cutmix]",),
        "q": ("technique=adamp",),
        "both": ("technique=[cutmix,adamp]",),
    }
    rows = [invented(arm, seed) for arm in arms for seed in range(4)]
    pairs = (("p", "none"), ("both", "q"))
    asked = replace(question(arms, range(4)), arms=arms, pairs=pairs)
    assert [claim.techniques for claim in build_claims(analyse(asked, rows))] == [{"rexnet", "cutmix"}, {"cutmix"}]
    factors = {"P": ("p", "both"), "Q": ("q", "both")}
    asked = replace(asked, factors=factors)
    found = [claim.techniques for claim in build_claims(analyse(asked, rows))]
    assert found == [{"cutmix"}, {"adamp"}, {"cutmix", "adamp"}]


def test_a_technique_against_its_own_control_is_about_it() -> None:
    arms = {"a": ("technique=ggdr",), "control": ("technique=ggdr", "method.penalties.ggdr.maps=other"), "none": ()}
    rows = [invented(arm, seed) for arm in arms for seed in range(4)]
    asked = replace(question(arms, range(4)), arms=arms, pairs=(("a", "control"), ("control", "none")))
    assert [claim.techniques for claim in build_claims(analyse(asked, rows))] == [{"ggdr"}, {"ggdr"}]
    everywhere = replace(asked, recipe=("technique=ggdr",), arms={arm: arms[arm][1:] for arm in arms})
    assert [claim.techniques for claim in build_claims(analyse(everywhere, rows))] == [frozenset(), frozenset()]


@pytest.mark.parametrize(
    "damage", ["", RESULTS_TABLE.end, MARKED + MARKED, f"{RESULTS_TABLE.end}\n<!-- paribus results: begin a. W. -->"]
)
def test_damaged_markers_are_refused(damage: str) -> None:
    with pytest.raises(ConfigError, match="should have one line"):
        RESULTS_TABLE.parse_names(damage, Path("README.md"))


def test_only_what_stands_between_the_markers_is_written() -> None:
    once = RESULTS_TABLE.insert("table", MARKED)
    assert once.startswith(MARKED.partition("\n<!--")[0])
    assert once.endswith(f"table\n\n{RESULTS_TABLE.end}\n\nrest\n")
    assert RESULTS_TABLE.insert("table", once) == once


def test_the_command_notices_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "experiments" / "quickstart"
    study.mkdir(parents=True)
    for name in ("study.yaml", "plan.jsonl", "results.jsonl"):
        shutil.copy(ROOT / "experiments" / "quickstart" / name, study / name)
    (tmp_path / "README.md").write_text(MARKED)
    monkeypatch.chdir(tmp_path)
    assert dispatch(["results"]) == 1
    assert dispatch(["results", "--write"]) == 0
    assert (study / "report.html").is_file()
    assert "| cutmix" in (tmp_path / "README.md").read_text()
    assert dispatch(["results"]) == 0
    rows = (study / "results.jsonl").read_text()
    (study / "results.jsonl").write_text(rows.replace('"val/acc1": 0.97', '"val/acc1": 0.87'))
    capsys.readouterr()
    assert dispatch(["results"]) == 1
    assert "README.md, experiments/quickstart/README.md" in capsys.readouterr().err
    for names in ("quickstart elsewhere", "quickstart quickstart", "elsewhere"):
        (tmp_path / "README.md").write_text(MARKED.replace("begin quickstart", f"begin {names}"))
        assert dispatch(["results"]) == 2, names
    for damage in (b"\xff\xfe", None):  # no text, no file
        (tmp_path / "README.md").write_bytes(damage) if damage else (tmp_path / "README.md").unlink()
        capsys.readouterr()
        assert dispatch(["results"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.chdir(study)
    assert dispatch(["results"]) == 2


def test_this_checkout_says_what_its_rows_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table and report is what the committed rows give, and every study with rows is in the table, but for those
    that wait for the first of their looks."""
    monkeypatch.chdir(ROOT)
    assert dispatch(["results"]) == 0
    on_record = {
        path.parent.name
        for path in Path("experiments").glob("*/results.jsonl")
        if not analyse_study(path.parent).is_waiting
    }
    page = Path("docs/results.md")
    assert set(RESULTS_TABLE.parse_names(page.read_text(), page)) == on_record
