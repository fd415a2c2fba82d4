"""A study from Python: `paribus.study(FOLDER)` runs it, and gives its rows, its verdicts and their picture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from paribus.core.errors import ConfigError, RunFailed
from paribus.core.exit_codes import BAD_CONFIG, OK
from paribus.core.table import Rows
from paribus.study import plan as plans
from paribus.study import rows as rows_file
from paribus.study.analysis.analysis import Analysis, analyse, record_interim
from paribus.study.analysis.question import build_analysis_spec
from paribus.study.load import load_study
from paribus.study.looks import add_look
from paribus.study.measures import read_measures
from paribus.study.noise import read_noise
from paribus.study.pictures import read_pictures
from paribus.study.report.build import choose_report_unit
from paribus.study.report.wording import format_verdict
from paribus.study.rows import Row
from paribus.study.spec import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class StudyResults:
    """A study and what its runs have shown so far. spec: study.yaml. runs: the folder of its run folders."""

    spec: Study
    runs: Path

    def run(self, workers: int | None = None) -> StudyResults:
        """Train what is missing, as `paribus study run` does, in processes of their own, and show its lines as they
        come. workers: cells at a time; None: as many as fit on the machine. An interrupt leaves the running cells to
        finish; the same call goes on. Raises ConfigError for a mistake in the study, RunFailed for failed cells."""
        command = [sys.executable, "-P", "-m", "paribus.cli", "study", "run", str(self.spec.folder)]
        command += ["--runs", str(self.runs), *(["--workers", str(workers)] if workers is not None else [])]
        last = ""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:  # a notebook shows what this process prints, not what its children do
                print(line, end="", flush=True)
                last = line.strip() or last
        if process.returncode != OK:
            error = ConfigError if process.returncode == BAD_CONFIG else RunFailed
            raise error(last.removeprefix("paribus: ") or f"paribus study run ended with {process.returncode}")
        return self

    def rows(self) -> Rows:
        """A row for each run that has ended: arm, seed, state, id, its metrics at the last step, and what it cost
        (train_s, eval_s in seconds; samples_per_sec; peak_gb; parameters; macs). Empty while no run has ended."""
        return Rows(
            {"arm": r.arm, "seed": r.seed, "state": r.state, "id": r.id, **r.metrics, **r.cost}
            for r in find_rows(self.spec, self.runs)
        )

    def verdicts(self) -> Rows:
        """A row for each comparison: arm, against, metric, difference with its 95 % interval low to high (in the
        metric's unit: of an accuracy, a fraction), p (Holm-adjusted), n (seeds), verdict, and all of it in words.

        A look at the results, which is put on record as `paribus study report` does. Raises ConfigError while no run
        has ended.
        """
        analysis = self._look()
        unit = choose_report_unit(analysis)
        found = Rows()
        for comparison in (details.comparison for details in analysis.comparisons):
            estimate, judgement = comparison.estimate, comparison.judgement
            said = " ".join(format_verdict(comparison, unit, analysis.spec.margin))
            found.append(
                {"arm": comparison.arm, "against": comparison.baseline, "metric": analysis.spec.metric}
                | {"difference": estimate.mean, "low": estimate.low, "high": estimate.high, "p": judgement.p_zero}
                | {"n": estimate.n, "verdict": str(judgement), "said": said}
            )
        return found

    def plot(self) -> Figure:
        """The differences with their 95 % intervals, as a report shows them: a matplotlib figure, to show or to save.
        A look at the results, as `verdicts` is."""
        from paribus.study.report.figures.intervals import plot_differences
        from paribus.study.report.figures.style import PAPER, style_context

        analysis = self._look()
        with style_context():
            wide, *_ = plot_differences(analysis, choose_report_unit(analysis))
        wide.figure.set_facecolor(PAPER)
        return wide.figure

    def _look(self) -> Analysis:
        rows = gather_rows(self.spec, self.runs)
        analysis = analyse_rows(self.spec, rows)
        add_look(self.spec, rows, record_interim(analysis))
        return analysis

    def __repr__(self) -> str:
        planned = len(self.spec.spec.arms) * len(self.spec.spec.seeds)
        return f"StudyResults({str(self.spec.folder)!r}: {len(self.rows())} of {planned} runs)"


def open_study(folder: str | Path, runs: str | Path | None = None) -> StudyResults:
    """See paribus.study."""
    study = load_study(Path(folder))
    return StudyResults(study, Path(runs).expanduser() if runs is not None else Path("runs") / study.name)


def analyse_rows(study: Study, rows: Iterable[Row]) -> Analysis:
    """All numbers of a study's report: of these rows, and of what else is on record in its folder. Raises
    ConfigError."""
    found = analyse(build_analysis_spec(study), rows, read_measures(study))
    return replace(found, noise=read_noise(study), pictures=read_pictures(study, found.rows))


def gather_rows(study: Study, runs: Path) -> list[Row]:
    """As find_rows. Raises ConfigError also if there are none."""
    rows = find_rows(study, runs)
    if not rows:
        raise ConfigError(f"{study.folder}: no run is recorded yet; start with paribus study run {study.folder}")
    return rows


def find_rows(study: Study, runs: Path) -> list[Row]:
    """The recorded rows, and those of planned runs that have ended but are not recorded yet. Raises ConfigError if they
    belong to another plan."""
    rows, plan = rows_file.read_rows(study.results_path), plans.read_plan(study.plan_path)
    if plan is not None:
        plans.check_rows(study, plan, plan, rows)
        recorded = {row.cell for row in rows}
        for cell in plan.cells:
            folder = runs / cell.folder
            if cell.name in recorded or not folder.is_dir():
                continue
            row = rows_file.read_row(folder, study.name, cell.arm)
            if row is not None and row.id == cell.id:
                rows.append(row)
    elsewhere = sorted({row.arm for row in rows} - study.spec.arms.keys())
    if elsewhere:
        raise ConfigError(
            f"{study.results_path}: has rows of {elsewhere[0]}, which study.yaml does not name; "
            "put the arm back, or move the rows away"
        )
    return rows
