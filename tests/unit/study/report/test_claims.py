"""Claims of papers beside the rows on record: which comparison a claim finds, and what a list of claims may say."""

from pathlib import Path

import pytest
import yaml

from helpers.reports import question, rows_for
from paribus.core.errors import ConfigError
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.report.claims import format_claims, read_claims
from paribus.study.spec import SecondaryMetric

LEVELS = {"baseline": 0.90, "cutmix": 0.93, "adamp": 0.90}
LOSS = SecondaryMetric(metric="val/loss", higher_is_better=False, unit="none")


def analyses() -> dict[str, Analysis]:
    pairs = (("cutmix", "baseline"), ("adamp", "baseline"), ("adamp", "cutmix"))
    asked = question(LEVELS, range(4), pairs=pairs, also=(LOSS,), setting="made up", limits="anything; really.")
    return {"invented": analyse(asked, rows_for(LEVELS, range(4)))}


def written(folder: Path, *claims: object) -> Path:
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump([{"technique": "CutMix", "paper": "Yun et al.", "claims": list(claims)}]))
    return path


def page_of(folder: Path, *claims: object) -> str:
    return format_claims(read_claims(written(folder, *claims)), analyses(), "../experiments")


def test_a_claim_has_the_figures_of_its_comparison(tmp_path: Path) -> None:
    here = [{"study": "invented", "arm": "cutmix"}, {"study": "invented", "arm": "adamp", "against": "cutmix"}]
    page = page_of(tmp_path, {"claim": "fewer errors", "says": "1 to 2 %", "here": here})
    made = {(c.comparison.arm, c.comparison.baseline): c.comparison for c in analyses()["invented"].comparisons}
    (first, second) = [line for line in page.splitlines() if "](../experiments/invented)" in line]
    for line, pair in ((first, ("cutmix", "baseline")), (second, ("adamp", "cutmix"))):
        assert f"{100 * made[pair].estimate.mean:+.2f}".replace("-", "−") in line
        assert f"**{made[pair].judgement}**" in line
        assert "val/acc1 ↑" in line
    assert first.startswith("| fewer errors | 1 to 2 % | cutmix against baseline: ")
    assert second.startswith("|  |  | adamp against cutmix: ")
    assert first.endswith("[invented](../experiments/invented): made up; not shown: anything |")


def test_a_secondary_metric_and_what_is_not_here(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        {"claim": "less loss", "here": [{"study": "invented", "arm": "cutmix", "metric": "val/loss"}]},
        {"claim": "detection", "says": "76.7 mAP", "not_here": "needs detectors"},
    )
    assert "| less loss | – | cutmix against baseline: val/loss ↓ |" in page
    assert "| detection | 76.7 mAP | – | – | not measured | needs detectors |" in page
    assert "Of 2 claims, 1 were measured in some form and 1 not" in page


def test_a_figure_that_needs_no_study_has_no_verdict(tmp_path: Path) -> None:
    figure = {"what": "ms an image", "found": "55 for 70", "where": "`python scripts/x.py`"}
    here = [{"study": "invented", "arm": "cutmix"}]
    page = page_of(tmp_path, {"claim": "faster", "says": "70 to 55", "without_study": [figure], "here": here})
    assert "| faster | 70 to 55 | ms an image | 55 for 70 | no study: no verdict | `python scripts/x.py` |" in page
    assert "\n|  |  | cutmix against baseline: " in page, "the claim is said once"
    assert "Of 1 claim, 1 were measured in some form and 0 not" in page


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"claim": "x"}, "0.claims.0: should have here or without_study, or not_here with the reason"),
        ({"claim": "x", "without_study": [{"what": "a"}]}, "0.claims.0.without_study.0.found"),
        ({"claim": "x", "without_study": "55 ms"}, "should be a list of {what, found, where}"),
        ({"claim": "x", "here": [{"study": "a", "arm": "b"}], "not_here": "why"}, "and not both"),
        ({"claim": "x", "here": [{"study": "invented"}]}, "0.claims.0.here.0.arm"),
        ({"claim": "x", "here": "invented/cutmix"}, "should be a list of {study, arm}"),
        ({"claim": "x", "colour": 1}, "0.claims.0.colour: no such key"),
        ({"claim": "x", "here": [{"study": "invente", "arm": "cutmix"}]}, "no recorded study invente .did you mean"),
        ({"claim": "x", "here": [{"study": "invented", "arm": "adamp"}]}, "found 2 comparisons; should be one of"),
        ({"claim": "x", "here": [{"study": "invented", "arm": "mixup"}]}, "found 0 comparisons; should be one of"),
        (
            {"claim": "x", "here": [{"study": "invented", "arm": "cutmix", "metric": "val/los"}]},
            "has no secondary metric val/los .did you mean val/loss",
        ),
    ],
)
def test_mistakes_are_told(claim: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        page_of(tmp_path, claim)


@pytest.mark.parametrize("text", ["a: 1", "- 1", "- {technique: x, paper: y}", "[", "- {technique: x, claims: []}"])
def test_a_file_of_another_kind_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"claims\.yaml"):
        read_claims(tmp_path / "claims.yaml")
