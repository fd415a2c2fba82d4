"""A report's page in a browser, at widths from a phone's to a desk's: nothing that matters lies outside of it.

Skipped where there is no Chromium; tests/unit/study/report/test_page.py computes the same from the drawings.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers.reports import question, rows_for
from paribus.study.analysis.analysis import analyse
from paribus.study.report.build import build_report, choose_report_unit
from paribus.study.report.figures.curves import build_plots
from paribus.study.report.html import render_html, render_svgs
from paribus.study.spec import PaperResult

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BROWSER, reason="needs Chromium: apt-get install chromium")]

# what is measured once the page is laid out; all in pixels of the page
MEASURE = """
<script>
const shown = e => e.getClientRects().length > 0;
const right = e => Math.round(e.getBoundingClientRect().right * 10) / 10;
const texts = [...document.querySelectorAll("svg text")].filter(shown);
const cells = [...document.querySelectorAll("table tr")].flatMap(row => [...row.children].slice(0, 2));
const facts = [...document.querySelectorAll("dl div")];
const top_of = e => Math.round(e.getBoundingClientRect().top);
document.body.innerHTML = "<pre id=measured>" + JSON.stringify({
  page: innerWidth,
  scrolls: document.documentElement.scrollWidth,
  text: Math.min(...texts.map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)),
  texts: texts.map(t => [t.textContent, right(t)]),
  differences: [...document.querySelector("table").querySelectorAll("th, td")].map(e => [e.textContent, right(e)]),
  verdicts: [...document.querySelectorAll("th, td")].filter(e => /is-/.test(e.className) || e.textContent == "verdict")
    .map(e => [e.textContent, right(e)]),
  rows: Object.values(Object.groupBy(facts, top_of)).map(row => row.map(e => e.firstChild.textContent)),
}) + "</pre>";
</script>
"""


@pytest.fixture(scope="module")
def page() -> str:
    levels = {"baseline": 0.90, "cutmix_with_a_long_name": 0.93, "adamp_with_a_long_name": 0.86, "both": 0.9045}
    cutmix, adamp = list(levels)[1:3]
    asked = question(
        levels,
        range(6),
        factors={"cutmix": (cutmix, "both"), "adamp": (adamp, "both")},
        targets=(0.85, 0.912),
        paper=(PaperResult(arm=cutmix, against="baseline", difference=0.022, source="a paper"),),
        setting="invented images",
        limits="anything of the real world.",
    )
    analysis = analyse(asked, rows_for(levels, range(6)))
    return render_html(build_report(analysis), render_svgs(build_plots(analysis, choose_report_unit(analysis))))


def measure(page: str, width: int, folder: Path) -> Any:
    """In a frame of that width, since a headless window has a least width of its own."""
    inner, outer = folder / "report.html", folder / "frame.html"
    inner.write_text(page.replace("</body>", f"{MEASURE}</body>"))
    outer.write_text(
        f'<iframe id=f src="report.html" style="width: {width}px; height: 9000px; border: 0"></iframe>'
        "<script>f.onload = () => { document.body.innerHTML = f.contentDocument.body.innerHTML }</script>"
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    command = [BROWSER, *flags, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", str(outer)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    measured = re.search(r'<pre id="measured">(.*?)</pre>', found, re.DOTALL)
    assert measured, found[-2000:]
    return json.loads(measured[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))


@pytest.mark.parametrize("width", [600, 700, 824, 1200])
def test_nothing_lies_outside_of_the_page(page: str, width: int, tmp_path: Path) -> None:
    found = measure(page, width, tmp_path)
    assert found["page"] == width
    assert found["scrolls"] <= width, "the page itself scrolls sideways"
    assert len(found["verdicts"]) > 10
    assert [cell for cell in found["verdicts"] if cell[1] > width] == []
    assert any("equivalence" in text for text, _ in found["differences"])
    assert [cell for cell in found["differences"] if cell[1] > width] == []  # a number cut off looks like another
    assert len(found["texts"]) > 40
    assert [text for text in found["texts"] if text[1] > width] == []
    assert found["text"] >= 10.99
    rows = found["rows"]
    assert sum(map(len, rows)) == 6
    assert not any(row == ["Settings"] for row in rows)
