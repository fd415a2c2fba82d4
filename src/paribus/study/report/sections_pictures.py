"""The section of a report that shows what the generators of the arms draw."""

from paribus.study.analysis.analysis import Analysis
from paribus.study.report.model import Section, ShownPicture
from paribus.study.report.wording import Unit


def build_pictures(a: Analysis, unit: Unit) -> Section | None:
    if not a.pictures.shown:
        return None
    shown = tuple(
        ShownPicture(one.of.arm, f"seed {one.of.seed}, step {one.of.step:,}: {one.of.caption}", one.of.file, one.png)
        for one in a.pictures.shown
    )
    notes = (
        "Drawn after the last step by the first seed's run of each arm, from the same noise or images; not chosen. One "
        "run shows what an arm can look like, and no difference between arms: that is what the metrics are for.",
    )
    return Section("samples", "Samples", notes, pictures=shown)
