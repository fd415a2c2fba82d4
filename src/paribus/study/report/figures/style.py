"""How figures are drawn: colours, type, and an SVG that takes both from the page around it.

Only the files of this folder import matplotlib. The same numbers give the same bytes: a fixed salt for ids, no date,
text kept as text. Inside a page, colours are CSS variables, so that one drawing serves light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from paribus.study.analysis.analysis import Analysis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of arms: blues, violet, gold and brown, which people with any colour vision can tell apart. Not the verdicts'
# green and red: an arm that is worse should not be drawn in the green of "better". The first is for the arm that others
# are compared with. The template has their counterparts for dark pages.
ARMS = ("#5b6470", "#0b6fb3", "#9d8100", "#351c62", "#574700", "#1d2dad", "#2584fd", "#7a641c")
PANEL = 400  # points wide
TEXT, TITLE = 11.0, 11.5  # points, which are pixels where the page has room for the figure's width
LINE = 14.0  # from one line to the next
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
INK, FAINT, GRID, MARGIN, PAPER = "#1b2026", "#5f6873", "#d9dde2", "#e8ebef", "#fefefe"
VERDICTS = {"better": "#0a6b50", "worse": "#a63c00", "same": INK, "open": FAINT}  # by the kind of a verdict
_VARIABLES = {INK: "--ink", FAINT: "--faint", GRID: "--grid", MARGIN: "--margin", PAPER: "--paper"}
_VARIABLES |= {VERDICTS[kind]: f"--{kind}" for kind in ("better", "worse")}
_VARIABLES |= {colour: f"--arm-{i}" for i, colour in enumerate(ARMS)}
_RC_PARAMS: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.7,
    "axes.labelcolor": FAINT,
    "axes.labelsize": TEXT,
    "axes.titlesize": TITLE,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.parse_math": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class PlotStyle:
    """Colour and marker of each arm, the reference first whatever its place."""

    arms: tuple[str, ...]
    reference: str

    def _index(self, arm: str) -> int:
        others = [name for name in self.arms if name != self.reference]
        return 0 if arm == self.reference else 1 + others.index(arm) % (len(ARMS) - 1)

    def colour(self, arm: str) -> str:
        return ARMS[self._index(arm)]

    def marker(self, arm: str) -> str:
        return MARKERS[self._index(arm)]


@dataclass(frozen=True)
class Plot:
    """key: the one that sections refer to. fits: wide or narrow, the page that it is made for; "" for both."""

    key: str
    title: str
    figure: Figure
    fits: str = ""


def build_style(a: Analysis) -> PlotStyle:
    return PlotStyle(tuple(a.spec.arms), a.reference)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many points (1/72 inch), without matplotlib's global state."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72))
    FigureCanvasSVG(figure)
    return figure


def style_context() -> Any:
    """The context in which figures are made."""
    import matplotlib

    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **_RC_PARAMS})


def render_svg(figure: Figure, key: str, title: str) -> str:
    """An <svg> for a page. key: makes its ids unique there. title: what it shows, for screen readers."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"paribus {key}"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r"(?:#|url\(#)([\w-]+)", text))
    text = re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    # the page's own sans serif, a little narrower than what the layout was made for
    text = text.replace("'DejaVu Sans'", "var(--sans)")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    width = float(size[1]) if size else 0.0
    head = f'<svg role="img" aria-label="{_escape(title)}" style="--width: {width:.0f}px" viewBox='
    text = re.sub(r"<svg[^>]*?viewBox=", head, text, count=1)
    text = re.sub(r'(<svg[^>]*?viewBox="[^"]*")[^>]*>', r"\1>", text, count=1)
    return re.sub(r"\n\s*", "\n", text.replace("xlink:href", "href")).strip()


def to_variable(colour: str) -> str:
    """A colour of this file as a page names it, so that it has its counterpart on a dark one."""
    return f"var({_VARIABLES[colour]})"


def render_png(figure: Figure) -> bytes:
    """The same on white, for services that take no SVG."""
    return render_file(figure, "png")


def render_file(figure: Figure, kind: str) -> bytes:
    """A file of its own on white: png, svg or pdf. The same figure gives the same bytes."""
    import matplotlib

    out = io.BytesIO()
    no_date = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": "paribus", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(out, format=kind, dpi=160, facecolor="white", metadata=no_date[kind])
    return out.getvalue()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def shorten(name: str, most: int = 24) -> str:
    """A name that fits beside a line; its beginning and its end are kept."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


@lru_cache(maxsize=4096)
def text_width(text: str, bold: bool = False, size: float = TEXT) -> float:
    """Of a line of text, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, False)[0]


def fit_name(name: str, width: float, bold: bool = False) -> str:
    """A name, shortened to so many points."""
    lengths = (most for most in range(len(name), 4, -1) if text_width(shorten(name, most), bold) <= width)
    return shorten(name, next(lengths, 4))


def wrap_text(text: str, width: float) -> str:
    """Words on as many lines as they need."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def write_title(figure: Figure, title: str) -> None:
    """At the top left, in bold."""
    width, height = (72 * inches for inches in figure.get_size_inches())
    figure.text(8 / width, 1 - 8 / height, title, ha="left", va="top", weight="bold", size=TITLE)


def spread_apart(places: Sequence[float], least: float) -> list[float]:
    """The places moved as little as needed so that no two are closer than `least`, in the order they had."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[tuple[float, list[int]]] = []  # centre, members
    for i in order:
        groups.append((places[i], [i]))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < least * (len(groups[-1][1]) + len(groups[-2][1])) / 2:
            (second, b), (first, a) = groups.pop(), groups.pop()
            groups.append(((first * len(a) + second * len(b)) / (len(a) + len(b)), [*a, *b]))
    moved = [0.0] * len(places)
    for centre, members in groups:
        for k, i in enumerate(members):
            moved[i] = centre + (k - (len(members) - 1) / 2) * least
    return moved


def show_grid_lines(axes: Axes, grid: str) -> None:
    """Keep the grid lines of one direction ("x" or "y") only."""
    axes.grid(False)
    axes.grid(True, axis=grid)  # pyright: ignore[reportArgumentType]
    axes.tick_params(length=0)
