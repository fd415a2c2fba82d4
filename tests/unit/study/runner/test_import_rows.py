"""Rows of other machines: taken if they are planned."""

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.studies import finished, made_up_plan, row, written
from paribus.core.errors import ConfigError
from paribus.study import rows as rows_file
from paribus.study.runner import import_rows


def test_import_takes_what_is_planned_and_says_why_it_takes_nothing_else(tmp_path: Path) -> None:
    study = written(tmp_path / "here")
    made = made_up_plan(study)
    cell, other = made.cells[2], made.cells[3]
    finished(tmp_path / "run", cell)
    found = import_rows.read_run_folder(tmp_path / "run", made.recipes["cutmix"])
    (new,) = import_rows.select_new_rows(study, made, [found, found], [])
    assert (new.study, new.cell, new.id) == ("here", "cutmix/s0", cell.id)
    assert import_rows.select_new_rows(study, made, [found], [new]) == []

    def refused(row_id: str, computed: dict[str, object] | None, seed: int = 0) -> str:
        with pytest.raises(ConfigError) as error:
            import_rows.select_new_rows(
                study, made, [import_rows.ForeignRow("x", replace(new, id=row_id, seed=seed), computed)], []
            )
        return str(error.value)

    assert "its nearest arm is cutmix: optimizer.lr is 0.1 in the plan, 0.3 here" in refused(
        "other", {"arm": "cutmix", "optimizer": {"lr": 0.3}}
    )
    assert "it is arm cutmix at seed 9, which is not planned" in refused("other", dict(made.recipes["cutmix"]), 9)
    assert "import its run folder" in refused("other", None)
    with pytest.raises(
        ConfigError, match=r"cutmix/s0 is already recorded, with other numbers \(val/acc1 0.25 and 0.5\)"
    ):
        import_rows.select_new_rows(study, made, [found], [row(cell, 0.25)])
    finished(tmp_path / "failed", other, state="FAILED")
    with pytest.raises(ConfigError, match="the run is not done"):
        import_rows.read_run_folder(tmp_path / "failed", {})


def test_import_of_a_file_knows_the_keys_by_the_plan_beside_it(tmp_path: Path) -> None:
    there = written(tmp_path / "there")
    other = made_up_plan(there, lr=0.7)
    rows_file.update_rows(there, [row(other.cells[0]), row(other.cells[1], state="failed")], {})
    study = written(tmp_path / "here")
    made = made_up_plan(study)
    found = import_rows.read_results_file(there.results_path)
    assert len(found) == 1
    with pytest.raises(ConfigError, match=r"baseline/s0: recipe .* optimizer.lr is 0.1 in the plan, 0.7 here"):
        import_rows.select_new_rows(study, made, found, [])
    made_up_plan(there)
    rows_file.update_rows(there, [row(made.cells[0])], {})
    assert [
        r.cell for r in import_rows.select_new_rows(study, made, import_rows.read_results_file(there.results_path), [])
    ] == ["baseline/s0"]
