"""The few results of a front page: found by name, put between markers, drawn beside the papers' figures."""

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.reports import question, rows_for
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.report.highlights import (
    HIGHLIGHTS,
    Highlight,
    draw_highlights,
    find_highlights,
    format_highlights,
)
from paribus.study.spec import PaperResult

ROOT = Path(__file__).parents[4]
README = Path("README.md")
MARKED = f"# top\n\n<!-- paribus highlights: begin one/b\ntwo/c,b:a. Written. -->\n{HIGHLIGHTS.end}\n\nrest\n"


def compared(name: str, **changes: object) -> Analysis:
    rows = rows_for({"a": 0.8, "b": 0.9, "c": 0.7}, range(6))
    return analyse(question(["a", "b", "c"], range(6), name=name, **changes), rows)


@pytest.fixture
def analyses() -> dict[str, Analysis]:
    claim = PaperResult(arm="b", against="a", difference=0.02, source="a paper (60 % to 62 %), of 2021 (a table)")
    limits = "anything at scale; for a reason."
    words = {("b", "a"): "B & friends for A, which is a long account of a change"}
    return {
        "one": compared("one", words=words, paper=(claim,), setting="ten images", limits=limits),
        "two": compared("two"),
    }


def test_markers_name_comparisons_and_the_text_goes_between_them() -> None:
    assert HIGHLIGHTS.parse_names(MARKED, README) == ("one/b", "two/c,b:a")
    assert (HIGHLIGHTS.stand_in(MARKED), HIGHLIGHTS.stand_in("# no markers")) == (True, False)
    once = HIGHLIGHTS.insert("text", MARKED)
    assert once.startswith("# top\n\n<!-- paribus highlights: begin one/b")
    assert once.endswith(f"text\n\n{HIGHLIGHTS.end}\n\nrest\n")
    assert HIGHLIGHTS.insert("text", once) == once
    for damaged in (HIGHLIGHTS.end, MARKED + MARKED, MARKED.replace(HIGHLIGHTS.end, "")):
        with pytest.raises(ConfigError, match="should have one line"):
            HIGHLIGHTS.parse_names(damaged, README)


def test_a_row_has_the_question_its_answers_and_what_they_cannot_show(analyses: dict[str, Analysis]) -> None:
    found = find_highlights(analyses, ("one/b", "two/c,b:a"), README)
    said = [[(x.verdict, x.published) for x in h.answers] for h in found]
    assert said == [[("better", 0.02)], [("worse", None), ("better", None)]], "in the order in which they are named"
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in format_highlights(found).splitlines()[2:]]
    e = analyses["one"].comparisons[0].comparison.estimate
    assert rows[0][1] == "ten images"
    assert rows[0][2].startswith("B & friends for A, which is a long account of a change: **better**, ")
    assert f"**better**, {100 * e.mean:+.2f} (" in rows[0][2]
    assert rows[0][2].endswith("), 6 seeds (paper: +2.00; a paper, of 2021)")
    assert rows[0][3] == "anything at scale"
    assert rows[1][0] == "[What is it worth?](experiments/two)"
    assert [part.partition(":")[0] for part in rows[1][2].split("<br>")] == ["c against a", "b against a"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("on/b", "did you mean one"),
        ("one/x", "compared are b:a, c:a"),
        ("one/b:c", "compared are b:a"),
        ("one/b,", "compared are b:a, c:a"),
        ("loss/b", "no accuracy"),
    ],
)
def test_what_is_not_there_is_told(analyses: dict[str, Analysis], name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find_highlights({**analyses, "loss": compared("loss", metric="val/loss")}, (name,), README)


def drawn(found: list[Highlight]) -> tuple[list[float], int]:
    """Where the points are, and how many strokes of crosses there are."""
    root = ElementTree.fromstring(draw_highlights(found))
    centres = [float(element.get("cx", "nan")) for element in root.iter() if element.tag.endswith("circle")]
    strokes = [e for e in root.iter() if e.tag.endswith("line") and e.get("stroke") == "var(--ink)"]
    return centres, len(strokes)


def test_the_picture_is_svg_with_a_place_for_each_and_a_cross_for_the_paper(analyses: dict[str, Analysis]) -> None:
    one, two = find_highlights(analyses, ("one/b", "two/c"), README)
    centres, strokes = drawn([one, two])
    assert centres[0] > centres[1], "better is to the right"
    assert strokes == 2
    centres, strokes = drawn([two])
    assert (len(centres), strokes) == (1, 0)
    text = draw_highlights([one, two])
    assert "prefers-color-scheme: dark" in text
    assert "B &amp; friends" in text


def test_the_front_page_of_this_checkout_is_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/results.md", "docs/results.svg"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert dispatch(["results"]) == 0
    assert (tmp_path / "docs/results.svg").stat().st_size < 60 * 1024
    assert len(HIGHLIGHTS.parse_names((tmp_path / README).read_text(), README)) <= 8
    (tmp_path / "docs/results.svg").write_text("<svg/>")
    capsys.readouterr()
    assert dispatch(["results"]) == 1
    assert "docs/results.svg" in capsys.readouterr().err
