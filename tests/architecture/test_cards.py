"""The cards agree with the code, name a source for every figure, and there is one for every technique."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from paribus.cli import cards
from paribus.cli.main import dispatch
from paribus.recipe.configs import list_options
from paribus.techniques import cutmix

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / cards.CARDS
PAPERS = cards.read_papers(ROOT)
STATUSES = ("measured", "not attempted", "out of reach here")


def test_every_card_is_what_the_code_gives() -> None:
    for name, text in cards.build_cards(ROOT).items():
        assert (FOLDER / f"{name}.md").read_text() == text, f"docs/cards/{name}.md is stale: paribus cards --write"


def test_negative_control_a_changed_account_makes_a_card_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutmix, "__doc__", f"{cutmix.__doc__}\nOne more deviation.")
    stale = [n for n, text in cards.build_cards(ROOT).items() if (FOLDER / f"{n}.md").read_text() != text]
    assert stale == ["cutmix"]


def test_every_picture_of_a_card_is_of_the_recorded_rows_and_small() -> None:
    drawn = cards.build_pictures(ROOT)
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(drawn)
    for name, svg in drawn.items():
        assert (FOLDER / f"{name}.svg").read_text() == svg, f"docs/cards/{name}.svg is stale: paribus cards --write"
        assert len(svg.encode()) < 60 * 1024
        assert f"({name}.svg)" in (FOLDER / f"{name}.md").read_text()


def test_negative_control_another_row_makes_a_picture_stale() -> None:
    studies = cards.STUDIES / "relabel_tiles"  # the only one of its technique
    as_recorded = cards.draw_card_curves("relabel", [analysis := cards.analyse_study(ROOT / studies)])
    first, *others = analysis.rows
    better = replace(first, metrics={**first.metrics, "val/acc1": first.metrics["val/acc1"] + 0.01})
    assert as_recorded == (FOLDER / "relabel.svg").read_text()
    assert cards.draw_card_curves("relabel", [replace(analysis, rows=(better, *others))]) != as_recorded
    assert cards.draw_card_curves("cutout", [analysis]) == ""


@pytest.mark.parametrize("name", PAPERS)
def test_bibtex_is_complete_and_of_the_paper_that_the_code_names(name: str) -> None:
    import importlib

    account = importlib.import_module(f"paribus.techniques.{PAPERS[name]['module']}").__doc__ or ""
    fields = read_bibtex(PAPERS[name]["bibtex"])
    assert {"title", "author", "year", "eprint", "archiveprefix"} <= fields.keys()
    assert {"booktitle", "journal"} & fields.keys()
    assert f"arXiv {fields['eprint']}" in account
    paper = " ".join(account.split())
    assert fields["year"] in paper
    assert fields["title"].replace("{", "").replace("}", "") in paper
    for author in re.split(r"\s+and\s+", fields["author"]):
        assert author.partition(",")[0] in paper, author
    assert PAPERS[name]["bibtex"].strip() in (FOLDER / f"{name}.md").read_text()


def read_bibtex(entry: str) -> dict[str, str]:
    """The fields of one entry. Raises ValueError where its braces do not close."""
    if not re.match(r"@\w+\{\w+,\n", entry) or entry.count("{") != entry.count("}") or "},\n}" in entry:
        raise ValueError(f"no BibTeX entry: {entry[:60]}")
    return {key: value for key, value in re.findall(r"^\s*(\w+)\s*=\s*\{(.*?)\},?$", entry, flags=re.M | re.S)}


def test_negative_control_a_damaged_entry_is_noticed() -> None:
    good = PAPERS["cutmix"]["bibtex"]
    assert len(read_bibtex(good)) == 7
    for damaged in (good.replace("},", "}", 1).replace("{Cut", "Cut"), good.rstrip()[:-1], f"paper: {good}"):
        with pytest.raises(ValueError, match="no BibTeX"):
            read_bibtex(damaged)


def test_every_overlay_has_a_card_or_is_told_in_one() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {*PAPERS, "README"}
    told = " ".join((FOLDER / f"{name}.md").read_text().partition(cards.BEGIN)[0] for name in PAPERS)
    for name in list_options("technique"):
        assert name == "baseline" or re.search(rf"`(technique=)?{name}`", told), f"no card tells of technique={name}"


@pytest.mark.parametrize("name", PAPERS)
def test_every_figure_has_a_source_and_a_status(name: str) -> None:
    for figure in PAPERS[name]["figures"]:
        assert figure["here"].startswith(STATUSES), figure
        assert figure["source"], figure
        assert "mem" not in figure["source"].split()


@pytest.mark.parametrize("name", PAPERS)
def test_every_value_of_the_paper_is_of_a_setting_that_exists(name: str) -> None:
    import importlib
    from dataclasses import fields

    module = importlib.import_module(f"paribus.techniques.{PAPERS[name]['module']}")
    known = {field.name for cls in PAPERS[name]["classes"] for field in fields(getattr(module, cls))}
    assert set(PAPERS[name].get("settings", {})) <= known


@pytest.mark.parametrize("name", PAPERS)
def test_what_a_card_points_to_exists(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    links += [f"../../{path}" for path in re.findall(r"\((tests/[\w/]+\.py)\)", text)]
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_the_command_checks_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / cards.CARDS
    folder.mkdir(parents=True)
    for path in FOLDER.iterdir():
        (folder / path.name).write_text(path.read_text())
    monkeypatch.chdir(tmp_path)
    (folder / "mixup.md").write_text(f"# By hand\n\n{cards.BEGIN}\n\nstale\n")
    assert dispatch(["cards"]) == 1
    assert "mixup" in capsys.readouterr().err
    assert dispatch(["cards", "mixup"]) == 0
    printed = capsys.readouterr().out
    assert dispatch(["cards", "--write"]) == 0
    assert (folder / "mixup.md").read_text() == printed
    assert printed.startswith("# By hand")
    assert dispatch(["cards"]) == 0


def test_wrong_input_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dispatch(["cards", "cutmux"]) == 2
    assert dispatch(["cards", "--no-such-option"]) == 2
    monkeypatch.chdir(tmp_path)
    assert dispatch(["cards"]) == 2
