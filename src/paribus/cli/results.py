"""`paribus results`: regenerate every table and report of a checkout from the recorded rows; nothing is trained.

That is the table of all results (docs/results.md, or README.md where that has its markers), a few of them in README.md
(its other markers) with a picture (docs/results.svg), what papers claim beside it (docs/claims.md, of
docs/claims.yaml) and, for each study under experiments/, what `paribus study report` makes, its line in looks.jsonl
included. A study that waits for the first of its planned looks has its report alone.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from paribus.cli.study.report import find_changes
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.exit_codes import OK
from paribus.study.analysis.analysis import Analysis, record_interim
from paribus.study.load import load_study
from paribus.study.looks import add_look, looks_path
from paribus.study.report.build import build_report
from paribus.study.report.claims import format_claims, read_claims
from paribus.study.report.files import check_writable, write_file
from paribus.study.report.highlights import HIGHLIGHTS, draw_highlights, find_highlights, format_highlights
from paribus.study.report.markdown import FIGURE, build_readme
from paribus.study.report.publish import README, publish
from paribus.study.report.results_table import RESULTS_TABLE, format_results_table
from paribus.study.report.study_figure import draw_study_figure
from paribus.study.results import analyse_rows, gather_rows
from paribus.study.rows import Row
from paribus.study.spec import RESULTS, Study

STUDIES = Path("experiments")
PAGE, PICTURE = Path("docs/results.md"), Path("docs/results.svg")
CLAIMS, CLAIMS_PAGE = Path("docs/claims.yaml"), Path("docs/claims.md")


def run(args: argparse.Namespace) -> int:
    folders = {path.parent.name: path.parent for path in sorted(STUDIES.glob(f"*/{RESULTS}"))}
    if not folders:
        raise ConfigError(f"results: no {STUDIES}/STUDY/{RESULTS} here; run it from the top of a checkout")
    studies = {name: load_study(folder) for name, folder in folders.items()}
    rows = {name: _gather_recorded_rows(study) for name, study in studies.items()}
    analyses = {name: analyse_rows(study, rows[name]) for name, study in studies.items()}
    reports = {name: build_report(a, find_changes(studies[name], rows[name], a)) for name, a in analyses.items()}
    readmes = _build_pages({name: a for name, a in analyses.items() if not a.is_waiting})
    pages = list(readmes)
    for name, folder in folders.items():
        path, figure = folder / README, draw_study_figure(analyses[name])
        before = _read_text(path) if path.exists() else None
        readmes[path] = build_readme(reports[name], before, path, bool(figure))
        readmes |= {folder / FIGURE: figure} if figure else {}
    stale = [path for path, text in readmes.items() if not path.is_file() or _read_text(path) != text]
    if args.write:
        for path in pages:
            check_writable(path)
        for name, folder in folders.items():
            check_writable(looks_path(studies[name]))
            print(f"report: {publish(folder, analyses[name], reports[name])}")
            add_look(studies[name], rows[name], record_interim(analyses[name]))
        for path in pages:
            write_file(path, readmes[path])
        print(f"{len(stale)} of {len(readmes)} files rewritten")
        return OK
    if stale:
        raise RunFailed(f"not up to date: {', '.join(map(str, stale))}; paribus results --write")
    print(f"{len(readmes)} files agree with the recorded rows of {len(folders)} studies")
    return OK


def analyse_study(folder: Path) -> Analysis:
    """From a study's recorded rows only."""
    study = load_study(folder)
    return analyse_rows(study, _gather_recorded_rows(study))


def _gather_recorded_rows(study: Study) -> list[Row]:
    """Without those of run folders on this machine, which are not in other clones."""
    return gather_rows(study, study.folder / "no runs")


def _build_pages(analyses: Mapping[str, Analysis]) -> dict[Path, str]:
    """The pages that are about all studies, up to date. Raises ConfigError where markers are damaged."""
    readme, page = Path(README), PAGE if PAGE.is_file() else Path(README)
    pages = {page: _fill_table(page, _read_text(page), analyses)}
    if CLAIMS.is_file():
        pages |= {CLAIMS_PAGE: format_claims(read_claims(CLAIMS), analyses, _locate_studies(CLAIMS_PAGE))}
    text = pages.get(readme) or _read_text(readme)
    if HIGHLIGHTS.stand_in(text):
        found = find_highlights(analyses, HIGHLIGHTS.parse_names(text, readme), readme)
        pages |= {readme: HIGHLIGHTS.insert(format_highlights(found), text), PICTURE: draw_highlights(found)}
    return pages


def _fill_table(path: Path, readme: str, analyses: Mapping[str, Analysis]) -> str:
    """The page with the table of all results. Raises ConfigError unless its marker names every recorded study once."""
    names = RESULTS_TABLE.parse_names(readme, path)
    if sorted(names) != sorted(analyses):
        raise ConfigError(
            f"{path}: the table of results should name every recorded study once, {', '.join(analyses)}; "
            f"its marker names {', '.join(names)}"
        )
    table = format_results_table((analyses[name] for name in names), _locate_studies(path))
    return RESULTS_TABLE.insert(table, readme)


def _locate_studies(page: Path) -> str:
    """Where the studies are, from a page."""
    return "/".join([*[".."] * (len(page.parts) - 1), str(STUDIES)])


def _read_text(path: Path) -> str:
    """Raises ConfigError if it is not a text file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
