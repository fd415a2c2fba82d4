"""What a verdict is written as: sentences, the plot, the page, JSON as docs/judging.md describes it, and the gate."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from helpers import public_tables as public
from paribus.cli.main import dispatch
from paribus.study.judge.files import judge_files
from paribus.study.judge.judged import Judged, JudgeOptions
from paribus.study.judge.plot import draw_text, shorten
from paribus.study.judge.report import build_judge_report
from paribus.study.judge.svg import draw_svg, list_ticks
from paribus.study.report.conditions import check_conditions
from paribus.study.report.wording import format_verdict
from paribus.study.stats import Rule, compare_all

PAGE = Path(__file__).parents[4] / "docs" / "judging.md"
RUNS = {
    "base": {s: 0.90 + 0.001 * (s % 5) for s in range(10)},
    "new": {s: 0.92 + 0.001 * ((3 * s) % 5) for s in range(10)},
    "same": {s: 0.90 + 0.001 * ((2 * s + 1) % 5) for s in range(10)},
}


def judge(tmp_path: Path, arms: dict[str, dict[int, float]] = RUNS, column: str = "acc", **asked: Any) -> Judged:
    path = public.write_seeds(tmp_path / "runs.csv", arms, column)
    return judge_files([path], JudgeOptions(**asked))


def schemas() -> list[dict[str, Any]]:
    return [json.loads(block) for block in re.findall(r"```json schema\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)]


def test_the_sentences_are_those_of_a_study(tmp_path: Path) -> None:
    judged = judge(tmp_path, margin="1")
    rule = Rule(margin=0.01)
    expected = compare_all(RUNS, [("new", "base"), ("same", "base")], rule)
    assert judged.comparisons == expected
    said = [(v.said, v.numbers) for v in build_judge_report(judged).verdicts]
    assert said == [format_verdict(c, judged.unit, 0.01) for c in expected]
    assert said[0][0] == "new is better than base."
    assert said[1][0] == "same and base are equivalent: if they differ, then by less than 1 point."


def test_accuracies_in_per_cent_are_judged_like_fractions(tmp_path: Path) -> None:
    percent = {arm: {s: 100 * v for s, v in of.items()} for arm, of in RUNS.items()}
    one, other = judge(tmp_path, margin="1"), judge(tmp_path, percent, margin="1pt")
    assert (other.metric.in_percent, other.rule.margin) == (True, 1.0)
    texts = [build_judge_report(judged) for judged in (one, other)]
    assert texts[0].verdicts == texts[1].verdicts
    assert texts[0].sections == texts[1].sections


@pytest.mark.parametrize("arms", [RUNS, {name: {s: 1 - v for s, v in of.items()} for name, of in RUNS.items()}])
def test_lower_mirrors_higher(arms: dict[str, dict[int, float]], tmp_path: Path) -> None:
    kinds = {
        up: [v.kind for v in build_judge_report(judge(tmp_path, arms, "thing", higher=up)).verdicts]
        for up in (True, False)
    }
    swap = {"better": "worse", "worse": "better"}
    assert kinds[True] == [swap.get(kind, kind) for kind in kinds[False]]
    assert kinds[True][0] == ("better" if arms is RUNS else "worse")


def test_the_plot_shows_the_intervals_in_their_places(tmp_path: Path) -> None:
    lines = draw_text(judge(tmp_path, margin="1"), 90).splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["new", "same"]
    zero = {line.index(mark) for line in lines[:2] for mark in "│┼" if mark in line}
    assert len(zero) == 1
    at = zero.pop()
    assert lines[2][at] == "0"
    assert lines[0].index("├") > at > lines[1].index("├")
    assert lines[0].rstrip().endswith("better")
    assert max(map(len, lines)) <= 90
    plain = draw_text(judge(tmp_path, margin="1"), 90, ascii_only=True).splitlines()
    assert [line.isascii() for line in plain[:2]] == [True, True]
    assert plain[0].index("o") == lines[0].index("●")


def test_twin_a_shifted_arm_moves_in_the_plot(tmp_path: Path) -> None:
    moved = RUNS | {"new": {s: v - 0.03 for s, v in RUNS["new"].items()}}
    one, other = (draw_text(judge(tmp_path, arms, margin="1"), 90).splitlines()[0] for arms in (RUNS, moved))
    with pytest.raises(AssertionError):
        assert one.index("●") - one.index("│") == other.index("●") - other.index("│")


def test_names_and_ticks() -> None:
    assert shorten("short", 24) == "short"
    assert [len(shorten("x" * 40, most)) for most in (24, 9)] == [24, 9]
    for low, high in ((-0.3, 0.9), (-1e-5, 3e-5), (-400.0, 90.0)):
        ticks = list_ticks(low, high)
        assert 0 in ticks
        assert 3 <= len(ticks) <= 7
        assert low <= min(ticks) < max(ticks) <= high


def test_the_drawing_is_well_formed_and_takes_the_colours_of_the_page(tmp_path: Path) -> None:
    judged = judge(tmp_path, RUNS | {"<&>": RUNS["same"]}, margin="1")
    drawing = ElementTree.fromstring(draw_svg(judged))
    assert len(list(drawing.iter("circle"))) == 3
    fills = [circle.get("fill") for circle in drawing.iter("circle")]
    assert fills == ["var(--better)", "var(--same)", "var(--same)"]
    assert "<&>" in [text.text for text in drawing.iter("text")]


def test_the_page_is_one_file_and_the_same_for_the_same_numbers(tmp_path: Path) -> None:
    path = public.write_seeds(tmp_path / "runs.csv", RUNS, "acc")
    page = tmp_path / "v.html"
    words = ["judge", str(path), "--margin", "1", "--html", str(page)]
    texts = [page.read_text() for _ in range(2) if dispatch(words) == 0]
    assert texts[0] == texts[1]
    assert "<h1>" in texts[0]
    assert texts[0].count("<svg") == 1
    assert "new is better than base." in texts[0]
    assert "paribus judge" in texts[0]
    assert "checkout" not in texts[0]
    assert not re.search(r'(src|href)="(?!#)', texts[0])


def write_json(tmp_path: Path, path: Path, *words: str) -> dict[str, Any]:
    out = tmp_path / "v.json"
    assert dispatch(["judge", str(path), *words, "--json", str(out)]) in (0, 1)
    return json.loads(out.read_text())


def test_the_json_is_as_the_page_of_documentation_says(tmp_path: Path) -> None:
    _, verdict = schemas()
    found = [
        write_json(tmp_path, public.write_seeds(tmp_path / "a.csv", RUNS, "acc"), "--margin=1", "--fail-if=worse"),
        write_json(tmp_path, public.write_seeds(tmp_path / "b.csv", {"base": {0: 0.5}, "new": {0: 0.7}}, "acc")),
        write_json(tmp_path, public.write_summaries(tmp_path / "c.csv", public.MISH), "--against=Mish"),
        write_json(
            tmp_path,
            public.write_correctness(tmp_path / "d.csv", (9, 2, 1, 3)),
            *("--examples", "--against=model 1", "--margin=5"),
        ),
    ]
    for content in found:
        jsonschema.validate(content, verdict)
    assert [content["asked"]["kind"] for content in found] == ["runs", "runs", "summaries", "examples"]
    assert found[1]["comparisons"][0]["verdict"] == "not testable"
    assert found[3]["comparisons"][0]["outcomes"]["arm"] == 2
    assert [check["failed"] for check in found[0]["gate"]] == [False, False]


ROWS: dict[str, list[dict[str, Any]]] = {
    "runs": [{"arm": a, "seed": s, "value": 0.5 + (a == "b") / 9 + s % 2 / 99} for a in "ab" for s in range(4)],
    "summaries": [{"arm": a, "n": 5, "mean": 0.5 + (a == "b") / 9, "sd": 0.01} for a in "ab"],
    "examples": [
        {"arm": a, "example": e, "cluster": e // 2, "correct": (e + (a == "b")) % 3 > 0} for a in "ab" for e in range(9)
    ],
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_as_the_page_describes_them_need_no_names_of_columns(kind: str, tmp_path: Path) -> None:
    for one in ROWS[kind]:
        jsonschema.validate(one, schemas()[0])
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in ROWS[kind]))
    content = write_json(tmp_path, path, *(["--examples"] if kind == "examples" else ["--higher"]), "--against=a")
    assert (content["asked"]["kind"], list(content["arms"])) == (kind, ["a", "b"])
    if kind == "examples":
        assert content["comparisons"][0]["outcomes"]["clusters"] == 5
    else:
        assert dispatch(["judge", str(path), "--against=a"]) == 2, "which direction is better is not known"


def list_objects(schema: Any, where: str = "") -> dict[str, dict[str, Any]]:
    """Path -> schema of each object with keys of its own, at any depth."""
    if not isinstance(schema, dict):
        return {}
    found = {where: schema} if "properties" in schema else {}
    for key, child in (*schema.get("properties", {}).items(), ("*", schema.get("items"))):
        found |= list_objects(child, f"{where}.{key}")
    return found | list_objects(schema.get("additionalProperties"), f"{where}.*")


def test_every_key_that_is_written_is_described_and_the_other_way_round() -> None:
    """With this, validation above refuses a key that is undescribed as well as one that is not written."""
    objects = list_objects(schemas()[1])
    assert list(objects) == [
        *("", ".asked", ".arms.*", ".comparisons.*", ".comparisons.*.estimate", ".comparisons.*.outcomes"),
        *(".comparisons.*.robustness", ".gate.*"),
    ]
    for where, one in objects.items():
        assert set(one["required"]) == one["properties"].keys(), where
        assert one["additionalProperties"] is False, where


@pytest.mark.parametrize("part", ["asked", "estimate", "robustness", "outcomes", "gate"])
def test_twin_a_key_more_or_less_is_refused(tmp_path: Path, part: str) -> None:
    verdict = schemas()[1]
    path = public.write_seeds(tmp_path / "a.csv", RUNS, "acc")
    if part == "outcomes":
        path = public.write_correctness(tmp_path / "d.csv", (9, 2, 1, 3))
    words = ("--examples", "--against=model 1") if part == "outcomes" else ()
    content = write_json(tmp_path, path, "--margin=1", "--fail-if=worse", *words)
    jsonschema.validate(content, verdict)
    node = {"asked": content["asked"], "gate": content["gate"][0]}.get(part) or content["comparisons"][0][part]
    node["more_than_that"] = 1
    with pytest.raises(jsonschema.ValidationError, match="more_than_that"):
        jsonschema.validate(content, verdict)
    del node["more_than_that"], node[next(iter(node))]
    with pytest.raises(jsonschema.ValidationError, match="required"):
        jsonschema.validate(content, verdict)


def test_twin_the_schema_refuses_what_is_no_verdict(tmp_path: Path) -> None:
    row, verdict = schemas()
    content = write_json(tmp_path, public.write_seeds(tmp_path / "a.csv", RUNS, "acc"))
    for broken in (
        content | {"schema": "1"},
        {key: value for key, value in content.items() if key != "comparisons"},
        content | {"comparisons": [content["comparisons"][0] | {"verdict": "best"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, verdict)
    for good in ({"arm": "a", "seed": 1, "value": 0.5}, {"arm": "a", "n": 3, "mean": 1, "sd": 0.2}):
        jsonschema.validate(good, row)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"arm": "a"}, row)


def test_failed_and_missing_runs_are_listed_and_fail_the_gate(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = ["arm,seed,acc", *(f"{arm},{s},0.9{s}" for arm in ("base", "new") for s in range(4))]
    rows[5], rows[6] = "new,0,nan", "new,9,0.91"
    (tmp_path / "runs.csv").write_text("\n".join(rows) + "\n")
    assert dispatch(["judge", str(tmp_path / "runs.csv"), "--failed", "--fail-if", "incomplete"]) == 1
    out = capfd.readouterr().out
    assert "runs.csv: 2 runs missing, 1 failed" in out
    assert "base/9 is missing, new/1 is missing" in out
    assert "new/0 failed" in out


def test_an_export_of_wandb_takes_unfinished_runs_as_failed(tmp_path: Path) -> None:
    rows = [
        f'"{arm}-{s}","{"crashed" if (arm, s) == ("new", 2) else "finished"}","","12","{arm}","{s}","{0.9 + 0.01 * s}"'
        for arm in ("base", "new")
        for s in range(5)
    ]
    head = '"Name","State","Notes","Runtime","Job Type","seed","val/acc1"'
    (tmp_path / "wandb.csv").write_text("\n".join([head, *rows]) + "\n")
    judged = judge_files([tmp_path / "wandb.csv"], JudgeOptions())
    assert (judged.failed, judged.comparisons[0].estimate.n) == (("new/2",), 4)
    assert "arm = Job Type, value" in judged.columns.replace("seed = seed, ", "")


def test_files_without_arms_are_arms(tmp_path: Path) -> None:
    for name, shift in (("base", 0.0), ("new", 0.02)):
        rows = [f"{s},{0.9 + shift + 0.001 * s * (1 + shift)}" for s in range(5)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["seed,acc", *rows]) + "\n")
    judged = judge_files([tmp_path / "base.csv", tmp_path / "new.csv"], JudgeOptions())
    assert [(c.arm, c.baseline, c.paired) for c in judged.comparisons] == [("new", "base", True)]


@pytest.mark.parametrize("condition", ["worse", "maybe-worse", "not-better", "not-equivalent", "undecided"])
@pytest.mark.parametrize("margin", [0.001, 0.01, 0.03])
def test_conditions_move_the_arm_and_not_only_the_interval(condition: str, margin: float, tmp_path: Path) -> None:
    """Against the statistics on arms that were moved by hand."""
    judged = judge(tmp_path)
    found = [check.failed for check in check_conditions(judged.gate(), [condition], margin)]
    bonus = {"worse": margin, "maybe-worse": margin, "not-better": -margin}.get(condition, 0.0)
    rule = Rule(margin=margin if condition == "not-equivalent" else 0.0)
    moved = {arm: {s: v + bonus for s, v in of.items()} for arm, of in RUNS.items()} | {"base": RUNS["base"]}
    pairs = [("new", "base"), ("same", "base")]
    families = [[pair] for pair in pairs] if condition == "maybe-worse" else [pairs]
    verdicts = [str(c.judgement.verdict) for family in families for c in compare_all(moved, family, rule)]
    holds = {
        "worse": lambda v: v.startswith("worse"),
        "maybe-worse": lambda v: v != "better",
        "not-better": lambda v: v != "better",
        "not-equivalent": lambda v: "within" not in v,
        "undecided": lambda v: v == "undecided",
    }[condition]
    assert found == [holds(v) for v in verdicts]


PERCENT = {"base": (0.5, 0.6, 0.7, 0.65), "new": (0.83, 0.94, 1.0, 0.99)}  # of a hundred, as of ImageNet-21k


@pytest.mark.parametrize(("head", "sign"), [("acc (%)", ""), ("acc", "%"), ("acc", " %")])
def test_a_per_cent_sign_settles_what_small_numbers_are(head: str, sign: str, tmp_path: Path) -> None:
    lines = [f"{arm},{s},{v}{sign}" for arm, of in PERCENT.items() for s, v in enumerate(of)]
    (tmp_path / "t.csv").write_text(f"arm,seed,{head}\n" + "\n".join(lines) + "\n")
    judged = judge_files([tmp_path / "t.csv"], JudgeOptions(against="base", margin="0.5"))
    assert (judged.metric.in_percent, judged.rule.margin) == (True, 0.5)
    assert judged.comparisons[0].estimate.mean == pytest.approx(0.3275)  # points
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("%", "").replace("()", ""))
    assert not judge_files([tmp_path / "t.csv"], JudgeOptions(against="base")).metric.in_percent


def test_numbers_beyond_an_accuracy_take_a_margin_as_typed(tmp_path: Path) -> None:
    arms = {name: {s: 100 * v + 5 for s, v in of.items()} for name, of in RUNS.items()}
    arms["new"][0] = 100.01
    assert judge(tmp_path, arms, column="accuracy", margin="0.5").rule.margin == 0.5
    assert judge(tmp_path, arms, column="top1", margin="0.5").rule.margin == 0.5


def test_seed_3_is_3_point_0(tmp_path: Path) -> None:
    """As pandas writes whole numbers once there was a gap."""
    lines = [f"base,{s},{v}" for s, v in RUNS["base"].items()] + [f"new,{s}.0,{v}" for s, v in RUNS["new"].items()]
    (tmp_path / "t.csv").write_text("arm,seed,acc\n" + "\n".join(lines) + "\n")
    judged = judge_files([tmp_path / "t.csv"], JudgeOptions(against="base", margin="1"))
    assert judged.comparisons[0].paired
    assert judged.comparisons[0].estimate == judge(tmp_path, margin="1").comparisons[0].estimate


def test_an_arm_that_failed_altogether_is_not_called_paired(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arm,acc\nbase,0.9\nbase,0.91\nnew,nan\nnew,nan\n")
    judged = judge_files([tmp_path / "t.csv"], JudgeOptions(against="base", failed=True))
    assert judged.test == "Welch's t"
    (verdict,) = build_judge_report(judged).verdicts
    assert verdict.numbers.startswith("No run has a result in the smaller arm")
