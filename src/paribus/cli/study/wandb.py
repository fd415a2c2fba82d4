"""`paribus study report --wandb`: the tables and figures of a report as one W&B run in the group of its study."""

from pathlib import Path

from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import choose_report_unit
from paribus.study.report.figures import style
from paribus.study.report.figures.curves import build_plots
from paribus.study.report.model import Report
from paribus.tracking.wandb_summary import StudySummary, send_summary


def send(study: str, analysis: Analysis, report: Report, page: Path, home: Path) -> str:
    """Returns in one line where it was sent. home: for W&B's own folder, unless WANDB_DIR names another."""
    with style.style_context():
        images = {
            f"{plot.key} {i}".replace("/", " "): (plot.title, style.render_png(plot.figure))
            for i, plot in enumerate(build_plots(analysis, choose_report_unit(analysis)))
            if plot.fits != "narrow"
        }
    tables = {
        f"{section.key}{f' {i}' if i else ''}": (table.head, table.rows)
        for section in report.sections
        for i, table in enumerate(section.tables)
    }
    numbers = {
        f"{c.arm} - {c.baseline}/{key}": value
        for c in (x.comparison for x in analysis.comparisons)
        for key, value in {
            "difference": c.estimate.mean,
            "low": c.estimate.low,
            "high": c.estimate.high,
            "p": c.judgement.p_zero,
            "p equivalence": c.judgement.p_beyond,
            "verdict": str(c.judgement),
        }.items()
    }
    numbers |= {f"{arm}/{key}": getattr(s, key) for arm, s in analysis.arms.items() for key in ("n", "mean", "sd")}
    config = {"metric": analysis.spec.metric, "margin": analysis.spec.margin, "arms": list(analysis.spec.arms)}
    return send_summary(StudySummary(study, report.title, config, numbers, tables, images, page), home)
