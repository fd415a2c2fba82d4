"""study.yaml: what it may say, and one line for everything that it may not."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import written
from paribus.core.errors import ConfigError
from paribus.study.analysis.question import build_analysis_spec
from paribus.study.load import load_study
from paribus.study.spec import ComparisonSpec, StudySpec, Tuned, Untuned, merge_overrides


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        written(folder, **changes)
    assert str(refused.value).startswith(f"{folder / 'study.yaml'}: ")
    assert "\n" not in str(refused.value)
    return str(refused.value).removeprefix(f"{folder / 'study.yaml'}: ")


def test_what_is_left_out_has_a_meaning(tmp_path: Path) -> None:
    study = written(tmp_path / "any", arms={"a": [], "b": ["x=1"], "c": ["x=2"]})
    assert study.name == "any"
    assert study.spec.seeds == (0, 1)
    assert study.spec.comparisons == (ComparisonSpec(arm="b", against="a"), ComparisonSpec(arm="c", against="a"))
    assert study.spec.arms["b"] == ("x=1",)
    assert (study.spec.threads, study.spec.retries, study.spec.higher_is_better) == (1, 1, True)
    assert load_study(tmp_path / "any" / "study.yaml") == study


def test_everything_said(tmp_path: Path) -> None:
    pair = {"arm": "cutmix", "against": "baseline"}
    study = written(
        tmp_path,
        seeds=[3, 1],
        comparisons=[pair],
        factors={"cutmix": ["cutmix"]},
        targets=[0.9, 1],
        settings={"tuned": "20 trials on minival for each arm"},
        paper=[{**pair, "difference": 0.022, "source": "arXiv 1905.04899 table 5"}],
        threads=2,
        retries=0,
    )
    assert study.spec.seeds == (3, 1)
    assert study.spec.settings == Tuned(tuned="20 trials on minival for each arm")
    assert study.spec.paper[0].difference == 0.022


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"smallest_efect": 1}, "smallest_efect: no such key (did you mean smallest_effect?)"),
    ({"colour": 1}, "study.yaml takes question, setting, recipe, arms, comparisons, factors, seeds, metric, "),
    ({"question": None}, "question: missing"),
    ({"question": ""}, "question: found ''"),
    ({"settings": None}, "settings: missing"),
    ({"settings": "guessed"}, "settings: found 'guessed'"),
    ({"settings": {"tunned": "x"}}, "settings.tunned: no such key (did you mean tuned?)"),
    ({"smallest_effect": 0}, "smallest_effect: found 0; should be greater than 0"),
    ({"smallest_effect": float("nan")}, "smallest_effect: found nan"),
    ({"smallest_effect": 0.5}, "smallest_effect: found 0.5 on val/acc1; is it 0.5 points (0.5pt) or 50 points (50pt)?"),
    ({"smallest_effect": "abc"}, "smallest_effect: found 'abc'; should be a number, e.g. 0.005 or 5e-3, or in points"),
    ({"smallest_effect": "0.5pt", "metric": "val/loss"}, "smallest_effect: found '0.5pt'; val/loss is not an accuracy"),
    ({"smallest_effect": "-0.5pt"}, "smallest_effect: found -0.005; should be greater than 0"),
    ({"targets": [0.9, 90]}, "targets.1: found 90; val/acc1 is a fraction, at most 1; for 90 % write 90pt or 0.9"),
    ({"targets": ["abc"]}, "targets.0: found 'abc'; should be a number"),
    ({"targets": 0.9}, "targets: found 0.9"),
    ({"paper": [{"arm": "cutmix", "against": "baseline", "difference": 2.2, "source": "s"}]},
     "paper.0.difference: found 2.2 on val/acc1; is it 2.2 points (2.2pt) or 220 points (220pt)?"),
    ({"limits": ["a"]}, "limits: found ('a',)"),
    ({"metric": "accuracy"}, "metric: found 'accuracy'"),
    ({"metric": "val/ece", "smallest_effect": 0.1}, "higher_is_better: missing; val/ece is not an accuracy"),
    ({"metric": "val/loss_without_ema", "smallest_effect": 0.1}, "higher_is_better: missing; val/loss_without_ema is"),
    ({"recipe": "experiment=smoke"}, "recipe: found 'experiment=smoke'"),
    ({"recipe": ["smoke"]}, "recipe: found 'smoke'; an override is key=value"),
    ({"recipe": ["seed=3"]}, "recipe: found 'seed=3'; a study sets this by seeds"),
    ({"arms": {"a": [], "b": ["++runtime.threads=2"]}}, "arms.b: found '++runtime.threads=2'; a study sets this by"),
    ({"arms": {"a": [], "b": ["paths.runs=x"]}}, "arms.b: found 'paths.runs=x'; a study sets this by the option"),
    ({"recipe": ["technique=cutmix", "technique=adamp"]}, "recipe: technique is set twice, by technique=cutmix and by"),
    ({"arms": {"a": [], "b": ["data.n=1", "++data.n=2"]}}, "arms.b: data.n is set twice, by data.n=1 and by ++"),
    ({"arms": {"a": []}}, "arms: found 1; a comparison needs two"),
    ({"arms": {"a": [], "b/c": []}}, "arms: found 'b/c'"),
    ({"arms": {"a": [], "b": None}}, "arms: found None"),
    ({"arms": ["a", "b"]}, "arms: found ('a', 'b')"),
    ({"seeds": 0}, "seeds: found 0; should be at least one seed"),
    ({"seeds": []}, "seeds: found none"),
    ({"seeds": [0, 1, 0]}, "seeds: 0 is listed twice"),
    ({"seeds": [-1]}, "seeds.0: found -1"),
    ({"seeds": ["a"]}, "seeds.0: found 'a'"),
    ({"seeds": True}, "seeds: found True"),
    ({"comparisons": [{"arm": "cutmx", "against": "baseline"}]}, "0.arm: found cutmx (did you mean cutmix?)"),
    ({"comparisons": [{"arm": "cutmix", "agianst": "x"}]}, "0.agianst: no such key (did you mean against?)"),
    ({"comparisons": [{"arm": "cutmix", "against": "cutmix"}]}, "comparisons.0: cutmix against itself"),
    ({"comparisons": [{"arm": "cutmix", "against": "baseline"}] * 2}, "cutmix against baseline is listed twice"),
    ({"comparisons": []}, "comparisons: found none"),
    ({"comparisons": ["cutmix"]}, "comparisons.0: found 'cutmix'"),
    ({"paper": [{"arm": "cutmix", "against": "baseline", "difference": 0.01}]}, "paper.0.source: missing"),
    ({"paper": [{"arm": "x", "against": "baseline", "difference": 0.01, "source": "s"}]}, "paper.0.arm: found x"),
    ({"factors": {"f": ["nobody"]}}, "factors.f: found nobody; the arms are baseline, cutmix"),
    ({"factors": {"f": ["cutmix", "cutmix"]}}, "factors.f: cutmix is listed twice"),
    ({"factors": {"f": []}}, "factors: baseline and cutmix are both the arm with no factor"),
    ({"factors": {"f": ["cutmix"], "g": ["cutmix"]}}, "factors: there is no arm with f alone"),
    ({"question": "TODO"}, "question: found 'TODO'; write the text itself, since the report prints it"),
    ({"setting": "todo: size"}, "setting: found 'todo: size'; write"),
    ({"limits": "\n TODO what it cannot show"}, "limits: found '\\n TODO what it cannot show'; write"),
    ({"settings": {"tuned": "TODO"}}, "settings.tuned: found 'TODO'; write"),
    ({"settings": {"untuned": "TODO: where from"}}, "settings.untuned: found 'TODO: where from'; write"),
    ({"comparisons": [{"arm": "cutmix", "against": "baseline", "what": "TODO"}]}, "comparisons.0.what: found 'TODO'"),
    ({"paper": [{"arm": "cutmix", "against": "baseline", "difference": 0.01, "source": "TODO"}]},
     "paper.0.source: found 'TODO'"),
    ({"threads": 0}, "threads: found 0"),
    ({"retries": -1}, "retries: found -1"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), MISTAKES, ids=[told[:50] for _, told in MISTAKES])
def test_a_mistake_is_one_line(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    assert told in refusal(tmp_path, **changes)


@pytest.mark.parametrize("number", ["1e-2", "0.01", "1.0e-2", "1pt", "1 pt", "'1e-2'", "+1e-2", "1%"])
def test_a_number_may_be_written_in_any_way(number: str, tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-2 as text."""
    written(tmp_path)
    text = (tmp_path / "study.yaml").read_text().replace("smallest_effect: 0.01", f"smallest_effect: {number}")
    paper = f"paper: [{{arm: cutmix, against: baseline, difference: {number}, source: s}}]"
    (tmp_path / "study.yaml").write_text(f"{text}targets: [9e-1, 90pt, 0.9, {number}]\n{paper}\n")
    spec = load_study(tmp_path).spec
    assert spec.smallest_effect == spec.paper[0].difference == 0.01
    assert spec.targets == (0.9, 0.9, 0.9, 0.01)


def test_only_numbers_are_read_as_numbers(tmp_path: Path) -> None:
    """A name that looks like a number stays a name: arms of a sweep are called 1e-3."""
    study = written(tmp_path, arms={"1e-2": ["optimizer.lr=1e-2"], "1e-3": ["optimizer.lr=1e-3"]}, question="1e3")
    assert list(study.spec.arms) == ["1e-2", "1e-3"]
    assert study.spec.question == "1e3"


def test_the_smallest_effect_of_a_loss_is_any_number(tmp_path: Path) -> None:
    spec = written(tmp_path, metric="val/loss", smallest_effect=0.5, higher_is_better=False, targets=[1.5]).spec
    assert (spec.smallest_effect, spec.targets) == (0.5, (1.5,))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("arms: {a: [], a: [x=1]}", "duplicate key a"),
        ("question: [", "is not YAML"),
        ("- a", "should be keys and values"),
        ("", "should be keys and values"),
        ("1: 2", "a key should be text, found 1"),
    ],
)
def test_a_file_that_is_no_study(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_study(tmp_path)


@pytest.mark.parametrize("text", ["Does the TODO list help?", "todos of digits"])
def test_a_text_may_speak_of_todo(text: str, tmp_path: Path) -> None:
    assert written(tmp_path, question=text, limits=text).spec.limits == text


def test_the_page_for_users_has_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs" / "extending.md").read_text()
    table = page.partition("## The keys of study.yaml")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    # `sequential` is what `seeds` says with first, more and most
    assert sorted(keys) == sorted(field.name for field in fields(StudySpec) if field.name != "sequential")


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no study there \(no study.yaml\)"):
        load_study(tmp_path)


def test_an_arm_takes_the_place_of_what_the_recipe_says() -> None:
    assert merge_overrides(("technique=adamp", "steps=5ba"), ("technique=cutmix",)) == ("technique=cutmix", "steps=5ba")
    assert merge_overrides(("+a.b=1",), ("++a.b=2",)) == ("++a.b=2",)


@pytest.mark.parametrize(
    ("settings", "parsed", "told"),
    [
        ("paper", "paper", "as in the paper"),
        ({"tuned": "3 rates"}, Tuned(tuned="3 rates"), "tuned: 3 rates"),
        ({"untuned": "everybody's"}, Untuned(untuned="everybody's"), "not tuned: everybody's"),
    ],
)
def test_where_settings_come_from(settings: Any, parsed: Any, told: str, tmp_path: Path) -> None:
    study = written(tmp_path / "s", settings=settings)
    assert study.spec.settings == parsed
    assert build_analysis_spec(study).settings == told
