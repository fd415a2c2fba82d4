"""The cards agree with the code, name a source for every figure, and there is one for every technique."""

import re
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
