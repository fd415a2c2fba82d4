"""The picture of a card: which comparisons are in it, curves where there are any, else two values of each seed."""

from dataclasses import replace
from xml.etree import ElementTree

from helpers.reports import question, rows_for
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.report.card_curves import draw_card_curves, find_studies

ARMS = {"a": (), "b": ("technique=cutmix",), "c": ("technique=[cutmix,adamp]",), "d": ("technique=pit_stem",)}


def analysed(curve: bool = False, seeds: int = 4) -> Analysis:
    asked = replace(question(list(ARMS), range(seeds), name="tried"), arms=ARMS, words={("b", "a"): "CutMix < & >"})
    rows = rows_for(dict.fromkeys(ARMS, 0.5) | {"b": 0.6}, range(seeds))
    points = [[10, 0.2], [20, 0.4], [30, 0.5]]
    curves = {"val/acc1": points if curve else points[-1:]}
    return analyse(asked, [replace(row, curves=curves) for row in rows])


def count(svg: str, tag: str) -> int:
    return len(ElementTree.fromstring(svg).findall(f".//{{*}}{tag}"))


def test_only_comparisons_of_the_technique_alone_are_drawn() -> None:
    a = analysed()
    assert find_studies("cutmix", [a]) == find_studies("pit", [a]) == [a]
    assert find_studies("adamp", [a]) == find_studies("mixup", [a]) == []
    assert draw_card_curves("mixup", [a]) == draw_card_curves("cutmix", []) == ""
    svg = draw_card_curves("cutmix", [a])
    assert count(svg, "g") == 1
    assert "CutMix &lt; &amp; &gt;" in svg
    assert "tried: val/acc1, %, 4 seeds" in svg


def test_without_curves_each_seed_is_a_line_of_two_dots_and_each_arm_has_its_mean() -> None:
    svg = draw_card_curves("cutmix", [analysed(seeds=5)])
    assert (count(svg, "polyline"), count(svg, "circle"), count(svg, "polygon")) == (5, 10, 0)
    means = {text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}
    a = analysed(seeds=5)
    assert {f"{100 * sum(a.values(arm).values()) / 5:.2f}" for arm in "ab"} <= means


def test_with_curves_each_arm_is_a_band_and_a_line() -> None:
    svg = draw_card_curves("cutmix", [analysed(curve=True)])
    assert (count(svg, "polyline"), count(svg, "polygon"), count(svg, "circle")) == (2, 2, 0)
    assert svg == draw_card_curves("cutmix", [analysed(curve=True)])


def test_a_second_study_gets_a_panel_beside() -> None:
    one, two = (draw_card_curves("cutmix", [analysed()] * n) for n in (1, 2))
    width = [float(ElementTree.fromstring(svg).attrib["width"]) for svg in (one, two)]
    assert width == [380, 760]
    assert (count(one, "g"), count(two, "g")) == (1, 2)
