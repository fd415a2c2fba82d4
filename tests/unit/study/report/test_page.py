"""What a report looks like: its text can be read, nothing lies over anything else, no colour contradicts a verdict.

The page itself is measured by a browser in tests/process/test_report_page.py, where there is one.
"""

import colorsys
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.reports import invented, question, rows_for
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.report import html
from paribus.study.report.build import VERDICT_KINDS, build_report, choose_report_unit
from paribus.study.report.figures import style
from paribus.study.report.figures.curves import build_plots
from paribus.study.report.figures.style import ARMS, VERDICTS, Plot, fit_name, text_width, wrap_text
from paribus.study.spec import PaperResult

TEMPLATES = Path(html.__file__).parent / "templates"
TEMPLATE = "".join((TEMPLATES / name).read_text() for name in ("colours.css.j2", html.TEMPLATE))
SCROLL_BAR = 15  # pixels that it takes from the page, though not from what a media query sees
LONG = "a_name_of_an_arm_as_long_as_some_people_make_them"


def study(arms: Sequence[str], **changes: Any) -> Analysis:
    """Everything that is drawn: each verdict, effects, targets that some miss, costs, the paper's figure."""
    levels = dict(zip(arms, (0.90, 0.93, 0.86, 0.9045), strict=False))
    factors = {"one": (arms[1], arms[3]), "other": (arms[2], arms[3])} if len(arms) == 4 else {}
    paper = (PaperResult(arm=arms[1], against=arms[0], difference=0.022, source="a paper"),)
    asked = question(levels, range(6), factors=factors, targets=(0.85, 0.912), paper=paper)
    return analyse(replace(asked, **changes), rows_for(levels, range(6)))


def many_arms() -> Analysis:
    levels = {"baseline": 0.9, **{f"{LONG}_{i}": 0.9 + i / 100 for i in range(5)}}
    return analyse(question(levels, range(3), metric="val/acc1"), rows_for(levels, range(3)))


STUDIES = {
    "short names": lambda: study(["baseline", "cutmix", "adamp", "both"]),
    "long names": lambda: study([f"{LONG}_{i}" for i in range(4)]),
    "two baselines": lambda: study(
        [f"{LONG}_{i}" for i in range(3)],
        pairs=((f"{LONG}_1", f"{LONG}_0"), (f"{LONG}_2", f"{LONG}_1")),
    ),
    "many arms": many_arms,
}


@pytest.fixture(scope="module", params=list(STUDIES))
def analysis(request: pytest.FixtureRequest) -> Analysis:
    return STUDIES[request.param]()


@dataclass(frozen=True)
class Drawn:
    """A figure as it is drawn: the sizes of its text in pixels, each text with its box."""

    plot: Plot
    sizes: tuple[float, ...]
    boxes: tuple[tuple[str, Any], ...]


@pytest.fixture(scope="module")
def figures(analysis: Analysis) -> tuple[Drawn, ...]:
    plots = build_plots(analysis, choose_report_unit(analysis))
    with style.style_context():
        return tuple(Drawn(plot, tuple(text_sizes(plot)), tuple(text_boxes(plot))) for plot in plots)


def text_sizes(plot: Plot) -> Iterator[float]:
    svg = style.render_svg(plot.figure, "key", plot.title)
    return map(float, re.findall(r"font(?:-size)?:[^;\"]*?([\d.]+)px", svg))


def text_boxes(plot: Plot) -> Iterator[tuple[str, Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(plot.figure)
    canvas.draw()
    hidden = {id(text) for axes in plot.figure.axes for text in undrawn_texts(axes)}
    for text in plot.figure.findobj(Text):
        if isinstance(text, Text) and text.get_text().strip() and text.get_visible() and id(text) not in hidden:
            # of the words alone, without the line that an annotation may have to its point
            yield text.get_text(), Text.get_window_extent(text, canvas.get_renderer())


def undrawn_texts(axes: Any) -> Iterator[Any]:
    """Those of ticks beyond the axes, and all of axes that are not shown."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if not (axes.get_visible() and low <= tick.get_loc() <= high):
                yield from (tick.label1, tick.label2)
    if not axes.get_visible():
        yield from axes.texts


# text


def css_number(pattern: str) -> float:
    found = re.search(pattern, TEMPLATE)
    assert found, pattern
    return float(found[1])


def shown_scale(plot: Plot, page: int) -> float:
    """How large a figure of the page is drawn, by the rules of the template: 1 is its own size."""
    margins = 2 * (16 if page <= 640 else 24)
    room = min(page - SCROLL_BAR, 880) - margins
    if plot.key.startswith(("curve", "gap", "cost", "target")):
        least = css_number(r"minmax\(min\(100%, (\d+)px\), 1fr\)")
        columns = max(1, int((room + 28) // (least + 28)))
        room = (room - 28 * (columns - 1)) / columns
    width = plot.figure.get_size_inches()[0] * 72
    return min(room / width, css_number(r"max-width: calc\(var\(--width\) \* ([\d.]+)\)"))


@pytest.mark.parametrize("page", [600, 640, 641, 768, 823, 824, 860, 880, 1200])
def test_text_of_figures_has_eleven_pixels(figures: tuple[Drawn, ...], page: int) -> None:
    wide_from = css_number(r"@media \(max-width: (\d+)px\) \{ \.fits-wide")
    for drawn in figures:
        if drawn.plot.fits != ("narrow" if page > wide_from else "wide"):
            assert drawn.sizes
            assert min(drawn.sizes) * shown_scale(drawn.plot, page) >= 10.99, (drawn.plot.key, page)


def overlap(one: Any, other: Any) -> bool:
    return min(one.x1, other.x1) - max(one.x0, other.x0) > 0.5 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1.5


def test_no_label_lies_over_another_or_outside_of_its_figure(figures: tuple[Drawn, ...]) -> None:
    for drawn in figures:
        for (name, box), (other, theirs) in itertools.combinations(drawn.boxes, 2):
            assert not overlap(box, theirs), (drawn.plot.key, drawn.plot.fits, name, other)
        page = drawn.plot.figure.bbox
        for name, box in drawn.boxes:
            assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, (drawn.plot.key, drawn.plot.fits, name)


def test_no_label_lies_on_a_band(figures: tuple[Drawn, ...]) -> None:
    """The band of the margin, and those around learning curves."""
    from matplotlib.collections import PolyCollection

    found = 0
    for drawn in figures:
        for axes in drawn.plot.figure.axes:
            for band in (c for c in axes.collections if isinstance(c, PolyCollection)):
                found += 1
                area = band.get_paths()[0].transformed(band.get_transform())
                for name, box in drawn.boxes:
                    on_it = overlap(box, axes.bbox) and area.intersects_bbox(box, filled=True)
                    assert not on_it, (drawn.plot.key, drawn.plot.fits, name)
    assert found


def test_names_are_shortened_and_sentences_wrapped_to_their_room() -> None:
    assert fit_name("cutmix", 100) == "cutmix"
    short = fit_name(LONG, 100)
    assert text_width(short) <= 100 < text_width(LONG)
    assert short.startswith("a_na")
    lines = wrap_text("difference to baseline in val/acc1, points (better →)", 120).split("\n")
    assert len(lines) > 1
    assert all(text_width(line) <= 120 for line in lines)
    assert " ".join(lines) == "difference to baseline in val/acc1, points (better →)"


# tables and facts


def test_the_verdict_stands_beside_the_name_where_a_narrow_page_shows_it(analysis: Analysis) -> None:
    """A table that is wider than the page is scrolled sideways, and then its last columns are not seen."""
    tables = [t for s in build_report(analysis).sections for t in s.tables if "verdict" in t.head]
    assert tables
    for table in tables:
        assert table.head.index("verdict") == 1
        assert 1 in table.left
        assert all(html.classify_cell(row[1]) for row in table.rows), "a verdict in that column"
        assert not any(html.classify_cell(cell) for row in table.rows for cell in row[2:])


@pytest.mark.parametrize("setting", ["", "ten images"])
@pytest.mark.parametrize("settings", ["", "as in the paper"])
def test_no_fact_stands_alone_in_the_last_row(setting: str, settings: str) -> None:
    asked = question(["a", "b"], range(3), setting=setting, settings=settings)
    report = build_report(analyse(asked, [invented(arm, seed) for arm in ("a", "b") for seed in range(3)]))
    page = html.render_html(report, {})
    columns, odd = re.findall(r'<dl style="--columns: (\d)"( class="odd")?>', page)[0]
    facts = page.count("<dt>")
    assert facts == len(report.facts)
    assert facts % int(columns) != 1
    # two columns on a narrow page, of which the first fact takes both where their number is odd
    assert bool(odd) == (facts % 2 == 1)
    assert "dl.odd div:first-child { grid-column: 1 / -1; }" in TEMPLATE


# colours


def themes() -> list[tuple[str, ...]]:
    """The colours of arms on light, dark and printed pages, as the template has them."""
    found = re.findall(r"--arm-(\d): (#[0-9a-f]{6})", TEMPLATE)
    assert [int(i) for i, _ in found] == [*range(8)] * 3
    colours = [colour for _, colour in found]
    return [tuple(colours[i : i + 8]) for i in (0, 8, 16)]


def hue(colour: str) -> tuple[float, float]:
    h, _, saturation = colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    return 360 * h, saturation


def test_the_page_has_the_colours_of_the_figures() -> None:
    light, _, printed = themes()
    assert light == printed == ARMS


@pytest.mark.parametrize("theme", [0, 1, 2])
def test_no_arm_has_the_colour_of_a_verdict(theme: int) -> None:
    """Green and red say better and worse; an arm of such a colour would say it of itself, whatever it is."""
    for colour in themes()[theme]:
        degrees, saturation = hue(colour)
        assert saturation < 0.2 or not (degrees < 40 or degrees > 330), f"{colour} is red or orange"
        assert saturation < 0.2 or not 70 < degrees < 185, f"{colour} is green"
    for kind, low, high in (("better", 70, 185), ("worse", 0, 40)):
        for colour in re.findall(rf"--{kind}: (#[0-9a-f]{{6}})", TEMPLATE):
            assert low <= hue(colour)[0] <= high


# Machado, Oliveira and Fernandes (2009), severity 1: what people without red or green cones see, in linear RGB
_PROTAN = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
_DEUTAN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
# Ottosson (2020), Oklab: equal distances are about equally well seen
_LMS = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip # noqa: E501
_LAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip # noqa: E501


def seen(colours: Sequence[str], eyes: Any) -> Any:
    """The colours in Oklab, as seen."""
    srgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(np.clip(linear @ np.array(eyes).T, 0, 1) @ np.array(_LMS).T) @ np.array(_LAB).T


def least_distance(colours: Sequence[str]) -> float:
    views = [seen(colours, eyes) for eyes in (np.eye(3), _PROTAN, _DEUTAN)]
    pairs = itertools.combinations(range(len(colours)), 2)
    return min(float(np.linalg.norm(view[i] - view[j])) for i, j in pairs for view in views)


@pytest.mark.parametrize("theme", [0, 1, 2])
def test_people_with_any_colour_vision_can_tell_arms_apart(theme: int) -> None:
    assert least_distance(themes()[theme]) > 0.075
    before = ("#5b6470", "#0b6fb3", "#c6540a", "#0a8a67", "#b0508f", "#8a6d00", "#2b9fd0", "#7a3e9d")
    assert least_distance(before) < 0.03, "the measure would not see two that look alike"


def test_an_interval_has_the_colour_of_its_verdict() -> None:
    """A worse arm, whatever its place in the list, is drawn in the colour of worse."""
    analysis = STUDIES["short names"]()
    kinds = [VERDICT_KINDS[c.comparison.judgement.verdict] for c in analysis.comparisons]
    assert kinds[:2] == ["better", "worse"]
    plots = build_plots(analysis, choose_report_unit(analysis))
    forests = [plot for plot in plots if plot.key == "forest"]
    assert len(forests) == 2
    for plot in forests:
        (axes,) = plot.figure.axes
        assert [line.get_color() for line in axes.lines if line.get_marker() == "o"] == [VERDICTS[k] for k in kinds]
        words = {t.get_text(): t.get_color() for t in axes.texts}
        assert words["worse"] == VERDICTS["worse"]
    (effects, _) = (plot for plot in plots if plot.key == "effects")
    drawn = [line.get_color() for line in effects.figure.axes[0].lines if line.get_marker() == "o"]
    assert drawn == [VERDICTS[VERDICT_KINDS[effect.judgement.verdict]] for effect in analysis.effects]
