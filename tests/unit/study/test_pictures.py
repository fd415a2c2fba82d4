"""samples/ of a study: one picture an arm, of the first seed, of the row on record; it stays when run folders go."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.measured import measures_of
from helpers.studies import finished, made_up_plan, row, written
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.image_grid import encode_png
from paribus.study.measures import Measure
from paribus.study.pictures import PictureOf, keep_of_measure, keep_of_runs, read_pictures
from paribus.study.plan import Cell
from paribus.study.report.build import build_report
from paribus.study.report.markdown import format_markdown
from paribus.study.report.publish import build_json, publish
from paribus.study.results import analyse_rows
from paribus.study.rows import Row, read_row
from paribus.study.spec import Study

NOTE = "FID is on features of digits-s0"


def png(grey: int) -> bytes:
    return encode_png(torch.full((6, 9, 1), grey, dtype=torch.uint8))


def drew(folder: Path, cell: Cell, grey: int = 100, **more: Any) -> None:
    """What a run leaves behind whose evaluators drew and said something."""
    finished(folder, cell)
    (folder / "samples").mkdir()
    (folder / "samples" / "step_00000020.png").write_bytes(png(grey))
    image = {"file": "samples/step_00000020.png", "caption": "8 × 8 images"}
    details = {"samples": {"grid": {"image": image}}, "fid": {"features": {"text": {"text": NOTE}}}, **more}
    runfolder.write_json(folder / runfolder.EVALUATION, details)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return written(tmp_path / "study")


def make(study: Study, runs: Path) -> tuple[list[Row], dict[str, Path]]:
    """Two arms of two seeds, whose runs drew."""
    cells = made_up_plan(study).cells
    for k, cell in enumerate(cells):
        drew(runs / cell.folder, cell, 100 + k)
    return [row(cell) for cell in cells], {cell.name: runs / cell.folder for cell in cells}


def test_the_first_seed_of_each_arm_is_kept_and_says_what_it_is_of(study: Study, tmp_path: Path) -> None:
    rows, folders = make(study, tmp_path / "runs")
    keep_of_runs(study, rows, folders)
    assert sorted(p.name for p in (study.folder / "samples").iterdir()) == ["baseline.png", "cutmix.png"]
    found = read_pictures(study, rows)
    assert [one.of for one in found.shown] == [
        PictureOf(arm, 0, f"{arm}-0-0.1", 20, "samples", "8 × 8 images") for arm in ("baseline", "cutmix")
    ]
    from PIL import Image

    for k, one in enumerate(found.shown):
        picture = Image.open(study.folder / one.of.file)
        assert (picture.size, picture.getpixel((0, 0))) == ((9, 6), 100 + 2 * k)
        assert json.loads(picture.text["paribus"])["arm"] == one.of.arm  # type: ignore[attr-defined]


def test_it_is_written_once_and_stays_without_the_run_folders(study: Study, tmp_path: Path) -> None:
    rows, folders = make(study, tmp_path / "runs")
    keep_of_runs(study, rows, folders)
    files = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (study.folder / "samples").iterdir()}
    keep_of_runs(study, rows, folders)
    keep_of_runs(study, rows, {cell: tmp_path / "gone" for cell in folders})
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files} == files


def test_pictures_of_other_runs_than_those_on_record_are_told_and_not_shown(study: Study, tmp_path: Path) -> None:
    rows, folders = make(study, tmp_path / "runs")
    keep_of_runs(study, rows, folders)
    now = [replace(one, id="other") if one.arm == "cutmix" else one for one in rows]
    keep_of_runs(study, now, folders)  # the folders have the earlier runs
    found = read_pictures(study, now)
    assert ([one.of.arm for one in found.shown], found.other_row) == (["baseline"], ("samples/cutmix.png",))
    cautions = build_report(analyse_rows(study, now)).cautions
    assert any("samples/cutmix.png" in text and "of no row on record" in text for text in cautions)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"GIF89a", "is no PNG"), (png(3)[:50], "is cut off"), (png(3), "does not say which run it is of")],
)
def test_a_file_that_is_none_of_ours_is_told(content: bytes, said: str, study: Study) -> None:
    (study.folder / "samples").mkdir()
    (study.folder / "samples" / "baseline.png").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_pictures(study, [])


def measured(of: Row) -> Measure:
    image = {"png": base64.b64encode(png(of.seed)).decode(), "caption": "4 × 4"}
    return measures_of(of, evaluator="samples", metrics={}, details={"grid": {"image": image}})


def test_a_measure_keeps_its_picture_beside_the_lines(study: Study) -> None:
    rows = [row(cell) for cell in made_up_plan(study).cells]
    kept = [keep_of_measure(study, measured(one), one.steps) for one in rows]
    assert all(one.details == {} for one in kept)
    assert [one.of.seed for one in read_pictures(study, rows).shown] == [0, 0]
    other = keep_of_measure(study, replace(measured(rows[0]), evaluator="faces"), 20)
    assert other.evaluator == "faces"
    assert (study.folder / "samples" / "baseline-faces.png").is_file()


def test_the_report_shows_them_and_says_what_numbers_are_of(study: Study, tmp_path: Path) -> None:
    _, folders = make(study, tmp_path / "runs")
    rows = [made for cell, path in folders.items() if (made := read_row(path, "x", cell.split("/")[0])) is not None]
    keep_of_runs(study, rows, folders)
    analysis = analyse_rows(study, rows)
    report = build_report(analysis)
    assert ("fid", NOTE) in report.facts
    text = format_markdown(report)
    assert "![cutmix](samples/cutmix.png)" in text
    assert "8 × 8 images" in text
    page = publish(study.folder, analysis, report).read_text()
    assert page.count('src="data:image/png;base64,') == 2
    assert "pictures" not in build_json(analysis, report)


def test_numbers_of_two_networks_features_are_told_not_to_compare(study: Study, tmp_path: Path) -> None:
    rows, _ = make(study, tmp_path / "runs")
    rows = [replace(one, notes={"fid": NOTE if one.seed else "on other features"}) for one in rows]
    report = build_report(analyse_rows(study, rows))
    assert not [name for name, _ in report.facts if name == "fid"]
    (caution,) = [text for text in report.cautions if "numbers of fid are not of the same" in text]
    assert "baseline/s0" in caution
    assert "on other features" in caution
