"""`paribus verify` stands for the whole record: any value that can be computed again is found when it was changed."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from helpers.trainings import stopping_after, trained
from paribus.cli.main import dispatch
from paribus.runs import replay
from paribus.study.rows import SCHEMA, Row, read_row

SMOKE = ("experiment=smoke", "method=lengths", "steps=20ba", "every.log=5ba", "every.evaluate=8ba")
CLOCKS = ("time/", "throughput/", "memory/")
Told = Callable[..., tuple[int, dict[str, Any]]]
Leaf = tuple[Any, ...]


@pytest.fixture(scope="module")
def the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped in the middle of a window and resumed, in runs/STUDY as a launcher puts it."""
    runs = tmp_path_factory.mktemp("work") / "runs" / "study"
    with pytest.MonkeyPatch.context() as patched:
        stopping_after(patched, 12)
        assert trained(runs, *SMOKE).code == 75
    return trained(runs, *SMOKE).folder


@pytest.fixture
def copy(the_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run and its row in a study, where they can be changed."""
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copytree(the_run, tmp_path / "runs" / "study" / the_run.name))
    row = read_row(copy, "study", "baseline")
    assert row is not None
    write_rows(tmp_path / "experiments" / "study" / "results.jsonl", row)
    return copy


def write_rows(path: Path, *rows: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"schema": SCHEMA, **asdict(row)}) + "\n" for row in rows))


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    """The verdict; a span is trained again once in a test, as what is changed here does not enter the training."""
    train_again, known = replay._train_again, dict[tuple[int, int], Any]()

    def once(recipe: Any, scratch: Any, device: Any, world: Any, start: Any, end: int) -> Any:
        span = (start.step if start else 0, end)
        if span not in known:
            known[span] = train_again(recipe, scratch, device, world, start, end)
        return known[span]

    monkeypatch.setattr(replay, "_train_again", once)

    def call(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
        code = dispatch(["verify", str(folder), "--json", *options])
        out, err = capfd.readouterr()
        return code, json.loads(out.splitlines()[-1]) if out else {"error": err}

    return call


def leaves(node: Any, path: Leaf = ()) -> Iterator[Leaf]:
    if isinstance(node, dict | list) and node:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*path, key))
    else:
        yield path


def with_leaf(node: Any, path: Leaf, change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(node)
    items = dict(node) if isinstance(node, dict) else list(node)
    items[path[0]] = with_leaf(items[path[0]], path[1:], change)
    return items


def another(value: Any) -> Any:
    """The same kind of value, a little off."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.001 if value else 0.001
    return [*value, 1] if isinstance(value, list) else {"x": 1} if isinstance(value, dict) else f"{value}x"


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, lines: list[Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def named(found: dict[str, Any]) -> set[tuple[str, int | None, str]]:
    """File, step and key of all that is said to differ."""
    listed = [found["first"], found["beyond"]]
    receipt = {(d["file"], d["step"], d["name"]) for d in listed if d}
    return receipt | {(d["file"], d["step"], d["key"]) for d in found["record"]}


def test_nothing_is_found_where_nothing_was_changed(copy: Path, told: Told) -> None:
    for options in ((), ("--span=0:7",), ("--steps=3",)):
        code, found = told(copy, *options)
        assert (code, found["verdict"], found["record"], found["first"]) == (0, "bit-exact", [], None), found
    code, found = told(copy)
    assert found["not_compared"] == ["memory/peak_gb, throughput/samples_per_sec, time/eval_s, time/train_s"]
    assert found["compared"]["summary"] == len(
        [k for k in json.loads((copy / "summary.json").read_text())["metrics"] if not k.startswith(CLOCKS)]
    )


def test_every_value_of_the_events(copy: Path, told: Told) -> None:
    path = copy / "events.jsonl"
    lines = read_lines(path)
    computed = [leaf for leaf in leaves(lines) if leaf[1] == "values" and not leaf[2].startswith(CLOCKS)]
    assert {leaf[2] for leaf in computed} >= {"train/loss", "lr", "val/acc1", "val/loss", "weights/norm"}
    first = {leaf[2]: leaf for leaf in reversed(computed)}
    for leaf in computed:
        step, key = lines[leaf[0]]["step"], leaf[2]
        for change in (another, *((str, lambda value: None) if leaf == first[key] else ())):
            write_lines(path, with_leaf(lines, leaf, change))
            code, found = told(copy)
            assert code == 4, leaf
            assert ("events.jsonl", step, key) in named(found), (leaf, found)


def test_the_verdict_in_words(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = copy / "events.jsonl"
    lines = read_lines(path)
    was = lines[0]["values"]["train/loss"]
    write_lines(path, with_leaf(lines, (0, "values", "train/loss"), lambda value: value + 1e-3))
    assert dispatch(["verify", str(copy)]) == 4
    assert f"differs from step 5: train/loss was {was + 1e-3!r} and is {was!r} (events.jsonl)" in capfd.readouterr().out
    write_lines(path, lines)
    summary = json.loads((copy / "summary.json").read_text())
    parameters = summary["model"]["parameters"]
    (copy / "summary.json").write_text(json.dumps({**summary, "model": {**summary["model"], "parameters": 7}}))
    assert dispatch(["verify", str(copy)]) == 4
    out = capfd.readouterr().out
    assert "the replay is bit-exact (20 losses, " in out
    assert f"\nsummary.json: model.parameters is 7, should be {parameters}\n" in out
    assert "\nnot compared: memory/peak_gb, throughput/samples_per_sec, time/eval_s, time/train_s\n" in out


def test_lines_that_are_gone_added_doubled_or_swapped(copy: Path, told: Told) -> None:
    path = copy / "events.jsonl"
    lines = read_lines(path)
    steps = [line["step"] for line in lines]
    assert steps == [5, 8, 10, 15, 16, 20]
    extra = {"step": 12, "values": {"train/loss": 1.0}}
    for changed, step in (
        ([*lines[:1], *lines[2:]], 8),
        (lines[:-1], 20),
        ([*lines[:3], extra, *lines[3:]], 12),
        ([*lines[:2], *lines[1:]], 8),
        ([lines[1], lines[0], *lines[2:]], 5),
    ):
        write_lines(path, changed)
        code, found = told(copy)
        assert code == 4
        assert "events.jsonl" in {d["file"] for d in found["record"]}
        assert step in {d["step"] for d in found["record"]}
    for key in ("lr", "val/acc1"):
        line = next(i for i, line in enumerate(lines) if key in line["values"])
        less = {k: v for k, v in lines[line]["values"].items() if k != key}
        for values in (less, {**lines[line]["values"], f"{key}_more": 1.0}):
            write_lines(path, with_leaf(lines, (line, "values"), lambda _, values=values: values))
            code, found = told(copy)
            assert code == 4
            assert lines[line]["step"] in {d["step"] for d in found["record"]}


def test_every_value_of_the_summary(copy: Path, told: Told) -> None:
    """Its clocks too: they are those of the events."""
    path = copy / "summary.json"
    summary = json.loads(path.read_text())
    every = list(leaves(summary))
    assert {leaf[0] for leaf in every} == set(summary)
    for leaf in every:
        path.write_text(json.dumps(with_leaf(summary, leaf, another)))
        code, found = told(copy)
        if leaf == ("state",):  # then it is of another state than the folder: nothing in it counts
            assert "summary.json (the run has not ended)" in found["not_compared"]
        elif leaf == ("step",):
            assert "receipts.jsonl ends at step 20 of 21" in found["error"]
        else:
            assert code == 4, leaf
            keys = {key for file, _, key in named(found) if file == "summary.json"}
            whole = ".".join(map(str, leaf))
            assert any(whole == key or whole.startswith(f"{key}.") or key == leaf[-1] for key in keys), (leaf, keys)
    Path("experiments/study/results.jsonl").unlink()  # with it the row could not be made again
    for leaf in (("metrics",), ("metrics", "val/acc1"), ("model",), ("seed",)):
        kept = {**summary, "metrics": dict(summary["metrics"])}
        del (kept["metrics"] if len(leaf) > 1 else kept)[leaf[-1]]
        path.write_text(json.dumps(kept))
        code, found = told(copy)
        missed = [text for text in found["not_compared"] if "not recorded" in text]
        assert code == 4 or any(leaf[0] in text for text in missed), leaf


def test_every_value_of_the_row(copy: Path, told: Told) -> None:
    """With the study given, and found by the folder's name; the row is of this run, so all of it is derived."""
    path = Path("experiments/study/results.jsonl")
    (row,) = read_lines(path)
    names = [leaf for leaf in leaves(row) if leaf[0] not in ("schema", "study", "arm", "id", "started")]
    curves = [leaf for leaf in names if leaf[0] == "curves"]
    names = [leaf for leaf in names if leaf[0] != "curves"] + curves[1::2][::5]  # every fifth value
    for i, leaf in enumerate(names):
        write_lines(path, [with_leaf(row, leaf, another)])
        code, found = told(copy, *(("--study", "experiments/study") if i % 2 else ()))
        assert code == 4, leaf
        (wrong,) = found["record"]
        assert wrong["file"] == f"results.jsonl (baseline/s{row['seed'] + (leaf == ('seed',))})"
        assert wrong["key"].startswith(str(leaf[0])), leaf


def test_the_row_of_another_run_of_the_recipe(copy: Path, told: Told) -> None:
    """A study's row may come from another machine: other clocks are not told as wrong, other results are."""
    path = Path("experiments/study/results.jsonl")
    (row,) = read_lines(path)
    elsewhere = {**row, "started": "2020-01-01T00:00:00+00:00", "cost": {**row["cost"], "train_s": 1.0}}
    write_lines(path, [elsewhere])
    code, found = told(copy)
    assert (code, found["record"]) == (0, [])
    assert "costs in results.jsonl (its row is of another run of this recipe)" in found["not_compared"]
    for leaf in (("metrics", "val/acc1"), ("curves", "val/loss", 0, 1), ("metrics", "train/loss")):
        write_lines(path, [with_leaf(elsewhere, leaf, lambda value: value * (1 + 1e-6))])
        assert told(copy)[0] == 4, leaf
        other = {**elsewhere, "fingerprint": {**row["fingerprint"], "torch": "1.0"}}
        write_lines(path, [with_leaf(other, leaf, lambda value: value * (1 + 1e-6))])
        assert told(copy)[0] == 0, leaf
        write_lines(path, [with_leaf(other, leaf, lambda value: value * 1.01)])
        assert told(copy)[0] == 4, leaf


def test_a_study_without_the_run_is_refused_if_it_was_named(copy: Path, told: Told) -> None:
    path = Path("experiments/study/results.jsonl")
    (row,) = read_lines(path)
    write_lines(path, [{**row, "id": "0" * 12}])
    assert told(copy)[0] == 0
    code, found = told(copy, "--study=experiments/study")
    assert code == 2
    assert "experiments/study/results.jsonl has no row of recipe" in found["error"]


def test_outside_the_steps_replayed_losses_and_summary_are_still_held_against_each_other(
    copy: Path, told: Told
) -> None:
    Path("experiments/study/results.jsonl").unlink()  # which has all evaluations
    path = copy / "events.jsonl"
    lines = read_lines(path)
    for change, key, expected in (
        ((3, "values", "train/loss"), "train/loss", 4),  # the receipt has each loss
        ((5, "values", "val/acc1"), "metrics.val/acc1", 4),  # the summary has the last
        ((4, "values", "val/acc1"), None, 0),
    ):
        write_lines(path, with_leaf(lines, change, another))
        code, found = told(copy, "--steps=7")
        assert code == expected, change
        assert key is None or key in {d["key"] for d in found["record"]}
        assert (
            "lines of events.jsonl outside the steps replayed, but for their losses (5 lines)" in found["not_compared"]
        )


def test_a_run_at_other_intervals_after_a_resume_is_no_mismatch(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intervals are no part of the recipe; what they leave incomparable is told."""
    with monkeypatch.context() as patched:
        stopping_after(patched, 12)
        assert trained(tmp_path, *SMOKE, "every.log=3ba").code == 75
    run = trained(tmp_path, *SMOKE, "every.log=4ba").folder
    code, found = told(run)
    assert (code, found["record"]) == (0, []), found
    assert (
        "lines of events.jsonl after step 0 up to 16, logged at other intervals than config.yaml's"
        in found["not_compared"]
    )
    path = run / "events.jsonl"
    lines = read_lines(path)
    write_lines(path, with_leaf(lines, (-1, "values", "lr"), another))  # negative control: the last segment
    assert told(run)[0] == 4
    write_lines(path, with_leaf(lines, (0, "values", "train/loss"), another))  # and the receipt has the others' losses
    assert told(run)[0] == 4
    # without the intervals on record, as an earlier version left it: the same
    write_lines(path, lines)
    provenance = json.loads((run / "provenance.json").read_text())
    for segment in provenance["segments"]:
        del segment["every"]
    (run / "provenance.json").write_text(json.dumps(provenance))
    assert told(run)[0] == 0


def test_a_run_that_has_not_ended(copy: Path, told: Told) -> None:
    """A kill between the receipt's line and the record's is no mismatch; the summary is that of an earlier stop."""
    (copy / "DONE").unlink()
    lines = read_lines(copy / "events.jsonl")
    write_lines(copy / "events.jsonl", lines[:-1])
    code, found = told(copy)
    assert (code, found["record"]) == (0, [])
    assert "summary.json (the run has not ended)" in found["not_compared"]
    write_lines(copy / "events.jsonl", [*lines[:1], *lines[2:-1]])
    assert told(copy)[0] == 4
