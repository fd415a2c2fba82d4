"""docs/pictures/report.png and report_dark.png: the top of a study's report.html as Chromium shows it.

The page is 1400 pixels wide; its empty sides are cut off, so that it can be read where it is shown 600 wide.

Needs Chromium, which is no dependency of paribus or of its tests. A digest of the page without its figures stands in
each file: after a change of the report's words, layout or rows, a test says that the pictures are stale, and somebody
who has Chromium runs `python scripts/pictures report`. A change of how figures are drawn goes unnoticed, since their
bytes depend on matplotlib's version.
"""

import hashlib
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, PngImagePlugin

from paribus.cli.results import analyse_study
from paribus.study.report.build import build_report, choose_report_unit
from paribus.study.report.figures.curves import build_plots
from paribus.study.report.html import render_html, render_svgs

ROOT = Path(__file__).parents[2]
STUDY, WIDTH, HEIGHT, SIDE, COLOURS = ROOT / "experiments" / "cutmix_cifar10", 1400, 1085, 250, 96
FILES = {"report.png": 1, "report_dark.png": 0}  # -> Chromium's number of the colour scheme
KEY = "paribus report"  # of the digest, in the file
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def compute_digest(study: Path = STUDY) -> str:
    """Of all words and the layout of the page that the picture shows."""
    page = render_html(build_report(analyse_study(study)), {})
    return hashlib.sha256(page.encode()).hexdigest()


def read_digest(path: Path) -> str:
    with Image.open(path) as picture:
        return str(picture.info.get(KEY, ""))


def make() -> dict[str, bytes]:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"report: none of {', '.join(BROWSERS)} is here; apt-get install chromium")
    analysis = analyse_study(STUDY)
    figures = render_svgs(build_plots(analysis, choose_report_unit(analysis)))
    with tempfile.TemporaryDirectory() as name:
        page = Path(name) / "report.html"
        page.write_text(render_html(build_report(analysis), figures), encoding="utf-8")
        return {file: _photograph(browser, page, scheme) for file, scheme in FILES.items()}


def _photograph(browser: str, page: Path, scheme: int) -> bytes:
    shot = page.with_suffix(".png")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={page.parent}/profile", f"--blink-settings=preferredColorScheme={scheme}"]
    command += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    about, out = PngImagePlugin.PngInfo(), io.BytesIO()
    about.add_text(KEY, compute_digest())
    with Image.open(shot) as picture:  # few colours: a page is mostly paper and ink
        few = picture.convert("RGB").crop((SIDE, 0, WIDTH - SIDE, HEIGHT)).quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(out, "PNG", optimize=True, pnginfo=about)
    return out.getvalue()
