"""A longer run that begins where a shorter one ended is the run of that length, bit for bit, or says why it is not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from helpers.trainings import Result, recipe_of, result_in, run, stopping_after, trained
from paribus.core.errors import ConfigError
from paribus.engine import checkpoint
from paribus.methods.schedules import Constant, Cosine, CosineByEpoch, Linear, Step
from paribus.runs import start as start_module
from paribus.runs.replay import replay_run
from paribus.runs.start import has_equal_factors

# 8 steps an epoch; a log line and a checkpoint at the end of both lengths
SMOKE = (
    "experiment=smoke",
    "schedule=constant",
    "every.log=4ba",
    "every.evaluate=8ba",
    "every.checkpoint=8ba",
    "checkpoints.keep=9",
)


def longer(runs: Path, source: Path | str, *overrides: str, techniques: tuple[str, ...] = ()) -> Result:
    return trained(runs, *SMOKE, "steps=3ep", f"init_from={source}", *overrides, techniques=techniques)


WAYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plain": ((), ()),
    "with an average and a warm-up of the rate": (("ema.decay=0.9", "schedule.warmup=10ba"), ()),
    "momentum and mixing": (("optimizer=sgd", "optimizer.lr=0.1"), ("cutmix",)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_continuation_is_the_longer_run_bit_for_bit(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides, techniques = WAYS[way]
    whole = trained(tmp_path / "whole", *SMOKE, "steps=3ep", *overrides, techniques=techniques)
    short = trained(tmp_path / "parts", *SMOKE, "steps=2ep", *overrides, techniques=techniques)
    capsys.readouterr()
    continued = longer(tmp_path / "parts", short.folder, *overrides, techniques=techniques)
    out, err = capsys.readouterr()
    line = f"{short.folder}: goes on with its training after step 16, bit for bit"
    assert f"note: init_from: {line}\n" in err
    assert f"starts from   {line}\n" in out
    assert continued.same_as(whole)
    states = [checkpoint.load(r.folder / "checkpoints" / "step_00000024.pt") for r in (continued, whole)]
    assert states[0].loop["receipt"] == states[1].loop["receipt"]
    if "ema.decay=0.9" in overrides:
        assert all(torch.equal(v, states[1].method["ema"][k]) for k, v in states[0].method["ema"].items())
    assert not short.same_as(whole)


def test_it_is_resumed_verified_and_continued_again_without_the_shorter_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", *SMOKE, "steps=3ep")
    short = trained(tmp_path / "parts", *SMOKE, "steps=1ep")
    middle = trained(tmp_path / "parts", *SMOKE, "steps=2ep", f"init_from={short.folder}")
    with monkeypatch.context() as patched:
        stopping_after(patched, 3)
        assert longer(tmp_path / "parts", middle.folder).code == 75
    shutil.rmtree(short.folder)
    shutil.rmtree(middle.folder)
    continued = longer(tmp_path / "parts", middle.folder)
    assert continued.same_as(whole)
    segments = json.loads((continued.folder / "provenance.json").read_text())["segments"]
    assert [(s["start_step"], s.get("copied_from"), "init_from" in s) for s in segments] == [
        (0, str(short.folder), False), (8, str(middle.folder), True), (16, None, True), (19, None, False),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="a replay cannot begin after step 0; it can after 16, 19"):
        replay_run(continued.folder, "0:8", None, [])  # those steps are the shorter run's
    replayed = replay_run(continued.folder, None, None, [])
    assert (replayed.begin, replayed.end, replayed.outcome) == (16, 24, "bit-exact")


def test_a_stopped_run_and_one_of_its_checkpoints_are_continued_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", *SMOKE, "steps=3ep")
    with monkeypatch.context() as patched:
        stopping_after(patched, 11)
        stopped = trained(tmp_path / "parts", *SMOKE, "steps=2ep")
    for source in (stopped.folder, stopped.folder / "checkpoints" / "step_00000008.pt"):
        assert longer(tmp_path / "parts", source).same_as(whole)


def test_a_copy_that_was_killed_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = trained(tmp_path / "parts", *SMOKE, "steps=2ep")
    folder = recipe_of(*SMOKE, "steps=3ep", f"init_from={short.folder}", f"paths.runs={tmp_path / 'parts'}").folder
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "events.jsonl").write_text('{"step": 4, "values": {"lr": 9.0}}\n')
    (folder / "receipts.jsonl").write_text("{")
    assert longer(tmp_path / "parts", short.folder).same_as(trained(tmp_path / "whole", *SMOKE, "steps=3ep"))


NEW: dict[str, tuple[tuple[str, ...], str]] = {
    "another rate": (("optimizer.lr=0.02",), "optimizer.lr differs"),
    "another seed": (("seed=1",), "seed differs"),
    "another schedule": (("schedule=cosine",), "schedule differs"),
    "another optimizer": (("optimizer=sgd",), "optimizer differs"),
    "an average": (("ema.decay=0.9",), "ema.decay, ema.warmup, ema.buffers differ"),
    "no longer": (("steps=2ep",), "steps=2ep is not longer than its 2ep"),
    "no longer in other words": (("steps=16ba",), "steps=16ba is not longer than its 2ep"),
    "other classes": (("data.classes=3",), "data.classes differs"),
}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return trained(tmp_path_factory.mktemp("short"), *SMOKE, "steps=2ep")


@pytest.mark.parametrize("kind", NEW)
def test_a_new_run_from_its_weights_says_why_it_is_one(
    kind: str, short: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides, why = NEW[kind]
    capsys.readouterr()
    new = longer(tmp_path, short.folder, *overrides)
    err = capsys.readouterr().err
    loaded = "6 of 6 tensors loaded"
    if kind == "other classes":
        loaded = "4 of 6 tensors loaded; new head for 3 classes (head; 10 classes in the file)"
    assert f"note: init_from: {short.folder} (step 16): {loaded}; a new run from these weights: {why}\n" in err
    assert new.events[0]["step"] == 4
    assert len(new.events) == (4 if "no longer" in kind else 6)


def test_a_new_run_begins_with_the_other_ones_weights(short: Result, tmp_path: Path) -> None:
    still = longer(tmp_path, short.folder, "optimizer.lr=1e-30", "optimizer.weight_decay=0.0")
    assert all(torch.equal(value, short.weights[name]) for name, value in still.weights.items())
    head = longer(tmp_path, short.folder, "optimizer.lr=1e-30", "optimizer.weight_decay=0.0", "data.classes=3")
    assert torch.equal(head.weights["features.0.weight"], short.weights["features.0.weight"])
    fresh = trained(tmp_path, *SMOKE, "optimizer.lr=1e-30", "optimizer.weight_decay=0.0", "data.classes=3")
    assert torch.equal(head.weights["head.weight"], fresh.weights["head.weight"]), "of the seed's stream"


def test_a_schedule_that_depends_on_the_length_makes_a_new_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cosine = (*SMOKE, "schedule=cosine")
    short = trained(tmp_path, *cosine, "steps=2ep")
    capsys.readouterr()
    trained(tmp_path, *cosine, "steps=3ep", f"init_from={short.folder}")
    err = capsys.readouterr().err
    assert "6 of 6 tensors loaded; a new run from these weights: its schedule depends on the length of the run" in err


@pytest.mark.parametrize(
    ("schedule", "equal"),
    [
        (Constant(), True),
        (Constant(warmup="1ep"), True),
        (Cosine(), False),
        (Cosine(warmup="1ep"), False),
        (Linear(), False),
        (CosineByEpoch(), False),
        (Step(), False),
        (Step(milestones=(0.9,)), False),
        (Cosine(floor=1.0), True),
    ],
)
def test_factors_are_compared_for_every_step_so_far(schedule: Any, equal: bool) -> None:
    assert has_equal_factors(schedule, 80, (80, 100), 0, 8) is equal


def test_other_images_make_a_new_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = trained(tmp_path, *SMOKE, "steps=2ep")
    provenance = short.folder / "provenance.json"
    content = json.loads(provenance.read_text())
    content["segments"][0]["data_checksum"] = "0" * 64
    provenance.write_text(json.dumps(content))
    capsys.readouterr()
    longer(tmp_path, short.folder)
    assert "a new run from these weights: its images were others\n" in capsys.readouterr().err


def test_the_record_has_to_reach_the_checkpoint(tmp_path: Path) -> None:
    short = trained(tmp_path, *SMOKE, "steps=2ep")
    (short.folder / "receipts.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"receipts.jsonl does not hold the 6 lines up to the checkpoint"):
        longer(tmp_path, short.folder)
    assert [path.name for path in tmp_path.iterdir()] == [short.folder.name], "no new folder is left"


def test_weights_that_another_process_changes_meanwhile_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = trained(tmp_path, *SMOKE, "steps=2ep")
    choose = start_module.choose_start

    def then_changed(*arguments: Any) -> Any:
        chosen = choose(*arguments)
        path = short.folder / "checkpoints" / "step_00000016.pt"
        state = checkpoint.load(path)
        state.method["model"]["head.bias"] += 1
        checkpoint.save(short.folder, state, 9)
        return chosen

    monkeypatch.setattr("paribus.runs.train.choose_start", then_changed)
    with pytest.raises(ConfigError, match="and the recipe demands"):
        longer(tmp_path, short.folder)


def test_a_finished_run_asked_for_with_more_steps_names_the_shorter_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shorter = trained(tmp_path, *SMOKE, "steps=1ep")
    short = trained(tmp_path, *SMOKE, "steps=2ep")
    capsys.readouterr()
    trained(tmp_path, *SMOKE, "steps=3ep")
    hint = f"note: {short.folder} is this recipe with steps=2ep, done; init_from={short.folder} goes on from its end"
    assert f"{hint}, to the same weights\n" in (err := capsys.readouterr().err)
    assert str(shorter.folder) not in err

    (short.folder / "DONE").unlink()  # not finished
    (shorter.folder / "config.yaml").write_text("steps: [")  # damaged
    for overrides in (("steps=3ep",), ("steps=20ba",), ("steps=4ba",), ("steps=3ep", "optimizer.lr=0.5")):
        run(tmp_path, *SMOKE, *overrides)  # done already, and none before, fewer steps, another recipe
        assert "init_from" not in capsys.readouterr().err

    trained(tmp_path, *SMOKE, "schedule=cosine", "steps=1ep")
    trained(tmp_path, *SMOKE, "schedule=cosine", "steps=2ep")
    assert "starts from its weights (its schedule depends on the length" in capsys.readouterr().err


def test_config_and_provenance_say_what_a_run_started_from(short: Result, tmp_path: Path) -> None:
    new = longer(tmp_path, short.folder, "data.classes=3")
    config = yaml.safe_load((new.folder / "config.yaml").read_text())
    assert (config["init_from"], config["init_strict"]) == (str(short.folder), True)
    assert len(config["init_from_sha256"]) == 64
    (segment,) = json.loads((new.folder / "provenance.json").read_text())["segments"]
    assert segment["init_from"].startswith(f"{short.folder} (step 16): 4 of 6 tensors loaded; new head for 3 classes")
    assert result_in(new.folder).events


def test_a_method_without_the_recipes_network_is_refused(
    short: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paribus.methods.supervised.Supervised.__call__", lambda self, slots, workshop: object())
    with pytest.raises(ConfigError, match=r"^init_from: object makes no network of `model` that could start from it"):
        longer(tmp_path, short.folder, "seed=5")
