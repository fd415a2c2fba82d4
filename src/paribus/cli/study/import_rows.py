"""`paribus study import`: rows of runs from another machine, if they are cells of the plan."""

import argparse
from pathlib import Path

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.study import plan as plans
from paribus.study import rows as rows_file
from paribus.study.load import load_study
from paribus.study.runner import import_rows as importing
from paribus.study.spec import RESULTS


def run(args: argparse.Namespace) -> int:
    study = load_study(args.study)
    plan, rows = plans.require_plan(study), rows_file.read_rows(study.results_path)
    found: list[importing.ForeignRow] = []
    for path in args.found:
        if path.is_file():
            found += importing.read_results_file(path)
        elif path.is_dir():
            found.append(importing.read_run_folder(path, _compute(path)))
        else:
            raise ConfigError(f"{path}: nothing there; a run folder or a {RESULTS} is needed")
    new = importing.select_new_rows(study, plan, found, rows)
    rows_file.update_rows(study, new, plan.ids())
    print(f"{len(new)} of {len(found)} rows are new: {study.results_path}")
    return OK


def _compute(folder: Path) -> dict[str, object]:
    """The result-changing part of a run folder's recipe, without the seed."""
    from paribus.recipe.recipe import rebuild_recipe  # torch comes with it

    recipe = rebuild_recipe({**runfolder.read_config(folder), "packages": []})
    return {key: value for key, value in recipe.computed.items() if key != "seed"}
