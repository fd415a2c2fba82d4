"""A longer run that begins where a shorter one ended is the run of that length, bit for bit, or says why it is not."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from helpers.trainings import Result, recipe_of, result_in, run, stopping_after, trained
from paribus.cli.verify import describe
from paribus.core.errors import ConfigError
from paribus.engine import checkpoint
from paribus.engine.distributed import World
from paribus.engine.provenance import fingerprint
from paribus.engine.runtime import Runtime
from paribus.methods.schedules import Constant, Cosine, CosineByEpoch, Linear, Step
from paribus.recipe.smoke import compose_small
from paribus.runs import start as start_module
from paribus.runs.replay import replay_run
from paribus.runs.screen import Screen
from paribus.runs.start import Start, describe_start, explain_numerics, has_equal_factors
from paribus.runs.train import train

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
    text = "\n".join(describe(replayed))
    assert f"{continued.folder}: steps 17 to 24 of 24 again" in text
    assert f"not compared: steps 1 to 16, which {middle.folder} trained" in text


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


NUMERICS = fingerprint(Runtime(), torch.device("cpu"), World(), "AdamW", ("helpers",))
OTHERS: dict[str, tuple[Any, str]] = {  # key -> another value, and what is said of it
    "paribus": ("0.0.1", "paribus was 0.0.1, is"),
    "code": ("0123456789abcdef", "code was 0123456789ab, is"),
    "torch": ("1.0", "torch was 1.0, is"),
    "device": ("VAX", "device was VAX, is"),
    "cudnn": (91002, "cudnn was 91002, is none"),
    "threads": (99, "runtime.threads was 99, is"),
    "world_size": (8, "world_size was 8, is 1"),
    "optimizer": ("AdamW, fused", "optimizer was AdamW, fused, is AdamW"),
    "channels_last": (False, "runtime.channels_last was false, is true"),
    "compile": ("default", "runtime.compile was default, is false"),
    "deterministic": (True, "runtime.deterministic was true, is false"),
    "tf32": (True, "runtime.tf32 was true, is false"),
    "fused": (True, "runtime.fused was true, is false"),
    "sync_bn": (True, "runtime.sync_bn was true, is false"),
    "packages": (
        {"helpers": "0123456789abcdef"},
        f"package helpers was 0123456789ab, is {NUMERICS['packages']['helpers'][:12]}",
    ),
}


@pytest.mark.parametrize("key", [*NUMERICS, *(OTHERS.keys() - NUMERICS.keys())])
def test_whatever_else_computes_otherwise_is_named_and_not_called_bit_for_bit(key: str, tmp_path: Path) -> None:
    other, says = OTHERS[key]
    recipe = recipe_of(*SMOKE)
    recipe = dataclasses.replace(recipe, init_from="runs/a")
    start = Start(continues=tmp_path / "step_00000040.pt", numerics=(NUMERICS, {**NUMERICS, key: other}))
    line = describe_start(recipe, start, [], NUMERICS, torch.device("cpu"))
    what = "results" if key in ("code", "packages") else "last bits"
    assert line.startswith(f"runs/a: goes on with its training after step 40; its {what} may differ: {says}")
    same = dataclasses.replace(start, numerics=(NUMERICS, dict(NUMERICS)))
    exact = "runs/a: goes on with its training after step 40, bit for bit"
    assert describe_start(recipe, same, [], NUMERICS, torch.device("cpu")) == exact
    assert "CUDA without runtime.deterministic=true" in describe_start(recipe, same, [], NUMERICS, torch.device("cuda"))
    repeats = dataclasses.replace(recipe, runtime=dataclasses.replace(recipe.runtime, deterministic=True))
    assert describe_start(repeats, same, [], NUMERICS, torch.device("cuda")) == exact


def test_all_fingerprints_of_the_shorter_run_count() -> None:
    one, two, three = ({"threads": n, "tf32": False} for n in (1, 2, 3))
    assert explain_numerics([one, two], three) == "its last bits may differ: runtime.threads was 1 and 2, is 3"
    assert explain_numerics([one, two], two) == "its last bits may differ: runtime.threads was 1, is 2"
    for unknown in ([], [{}], [two, {}]):
        assert explain_numerics(unknown, two) == (
            "its last bits may differ: how it was computed so far is not on record"
        )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("runtime.channels_last=false", "runtime.channels_last was true, is false"),
        ("runtime.threads=2", "runtime.threads was 1, is 2"),
    ],
)
def test_under_other_numerics_note_panel_and_provenance_say_so(
    override: str, says: str, short: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    continued = longer(tmp_path, short.folder, override)
    out, err = capsys.readouterr()
    line = f"{short.folder}: goes on with its training after step 16; its last bits may differ: {says}"
    assert f"note: init_from: {line}\n" in err
    assert f"starts from   {line}\n" in out
    segments = json.loads((continued.folder / "provenance.json").read_text())["segments"]
    assert segments[-1]["init_from"] == line
    assert "bit for bit" not in out + err
    replayed = replay_run(continued.folder, None, None, [])
    assert (replayed.begin, replayed.outcome) == (16, "bit-exact"), "of its own steps"
    assert f"not compared: steps 1 to 16, which {short.folder} trained" in "\n".join(describe(replayed))


@pytest.mark.parametrize("kind", ["continued", "fine-tuned"])
def test_the_command_for_another_seed_starts_from_no_weights_of_this_one(
    kind: str, short: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("experiment=mine", "steps=3ep", f"init_from={short.folder}", "seed=0")
    overrides = [*SMOKE, "steps=3ep", f"init_from={short.folder}", f"paths.runs={tmp_path}"]
    overrides += ["optimizer.lr=0.02"] if kind == "fine-tuned" else []
    capsys.readouterr()
    train(compose_small(overrides, ()), [], screen=Screen(command))
    kept = f" init_from={short.folder}" if kind == "fine-tuned" else ""
    assert f"  another seed    paribus train experiment=mine steps=3ep{kept} seed=1\n" in capsys.readouterr().out


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
    assert f"{hint}, with the same runtime, machine and versions to the same weights\n" in (
        err := capsys.readouterr().err
    )
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
