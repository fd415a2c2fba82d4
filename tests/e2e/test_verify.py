"""`paribus verify` finds nothing where there is nothing, and finds the step where something was changed."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from helpers.trainings import stopping_after, trained
from paribus.cli.main import dispatch
from paribus.methods.supervised import SupervisedTraining
from paribus.runs.replay import replay_run

SMOKE = ("experiment=smoke", "model.dropout=0.1", "every.log=5ba", "every.checkpoint=10ba", "checkpoints.keep=9")
Verify = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _one_thread_after_all() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped after step 27, in the middle of a window, and resumed."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        stopping_after(patched, 27)
        assert trained(runs, *SMOKE, techniques=("cutmix",)).code == 75
    return trained(runs, *SMOKE, techniques=("cutmix",)).folder


@pytest.fixture
def copy(the_run: Path, tmp_path: Path) -> Path:
    """The run, to be damaged."""
    return Path(shutil.copytree(the_run, tmp_path / "copy"))


@pytest.fixture
def verify(capfd: pytest.CaptureFixture[str]) -> Verify:
    def call(folder: Path, *options: str, code: int = 0) -> dict[str, Any]:
        found = dispatch(["verify", str(folder), "--json", *options])
        out, err = capfd.readouterr()
        assert found == code, err
        return json.loads(out.splitlines()[-1])

    return call


def content(folder: Path) -> dict[Path, Any]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in folder.rglob("*")}


def provenance(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "provenance.json"
    known = json.loads(path.read_text())
    for segment in known["segments"]:
        change(segment)
    path.write_text(json.dumps(known))


def test_a_run_is_what_it_was_and_stays_untouched(the_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = content(the_run)
    assert dispatch(["verify", str(the_run)]) == 0
    told = capfd.readouterr().out
    assert "steps 1 to 60 of 60 again" in told
    assert "bit-exact: 60 losses, 12 gradient norms, 12 checksums of weights and optimizer, " in told
    assert "36 values of events.jsonl and 6 of summary.json are equal" in told
    assert "the numerics fingerprint is the recorded one" in told
    assert content(the_run) == before


def test_another_processor_is_named_and_no_equal_bits_are_promised(
    the_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(the_run, elsewhere)
    provenance(elsewhere, lambda segment: segment.update(cpu="Another Processor"))
    found = replay_run(elsewhere, "0:2", None, [])
    assert not found.is_exact_promised
    assert found.tolerance > 0
    assert found.differences["processor"][0] == "Another Processor"
    provenance(elsewhere, lambda segment: segment.pop("cpu"))  # as of a record that does not say
    again = replay_run(elsewhere, "0:2", None, [])
    assert again.is_exact_promised
    assert "processor" not in again.differences


@pytest.mark.parametrize(
    ("options", "begin", "end", "compared"),
    [
        (("--span", "10:40"), 10, 40, (30, 6, 6, 20, 0)),
        (("--span=27:",), 27, 60, (33, 7, 8, 22, 6)),  # the checkpoint of the stop
        (("--span", "20:33"), 20, 33, (13, 2, 2, 4, 0)),
        (("--steps", "7"), 0, 7, (7, 1, 0, 2, 0)),
    ],
)
def test_a_span(
    the_run: Path, verify: Verify, options: tuple[str, ...], begin: int, end: int, compared: tuple[int, ...]
) -> None:
    found = verify(the_run, *options)
    assert found["verdict"] == "bit-exact"
    assert (found["begin"], found["end"]) == (begin, end)
    assert tuple(found["compared"].values()) == compared


def disturbed_after(step: int, change: Callable[[torch.Tensor], None], patched: pytest.MonkeyPatch) -> None:
    """The weights change between this step (from 1) and the next, by something that no recipe says."""
    train_step = SupervisedTraining.train_step

    def disturbed(self: SupervisedTraining, batch: Any, at: Any) -> Any:
        metrics = train_step(self, batch, at)
        if at.step + 1 == step:
            with torch.no_grad():
                change(next(iter(self.model.parameters())))
        return metrics

    patched.setattr(SupervisedTraining, "train_step", disturbed)


def one_ulp(weight: torch.Tensor) -> None:
    weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))


def by_a_percent(weight: torch.Tensor) -> None:
    weight.mul_(1.01)


@pytest.mark.parametrize("step", random.Random(8).sample(range(1, 40), 3))
def test_negative_control_one_ulp_in_one_weight_is_found_at_its_step(step: int, verify: Verify, tmp_path: Path) -> None:
    overrides = ("experiment=smoke", "steps=40ba")
    with pytest.MonkeyPatch.context() as patched:
        disturbed_after(step, one_ulp, patched)
        fine = trained(tmp_path / "a", *overrides, "every.log=1ba", "every.checkpoint=1ba").folder
        coarse = trained(tmp_path / "b", *overrides, "every.log=10ba", "every.checkpoint=10ba").folder
    found = verify(fine, code=4)
    assert found["verdict"] == "differs"
    assert found["differs_from"] == step
    assert found["first"]["name"] == "the model's checksum"
    found = verify(coarse, code=4)  # no later than the next checkpoint, and not before the last that was equal
    assert found["sound"] < step <= found["differs_from"] <= -(-step // 10) * 10
    assert step - found["sound"] <= 10


@pytest.mark.parametrize("step", [1, 17, 39])
def test_negative_control_another_weight_is_found_by_the_next_loss(step: int, verify: Verify, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        disturbed_after(step, by_a_percent, patched)
        folder = trained(tmp_path, "experiment=smoke", "steps=40ba").folder
    found = verify(folder, code=4)
    assert (found["differs_from"], found["first"]["name"]) == (step + 1, "train/loss")
    assert found["differences"] == {}


def test_negative_control_another_seed(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump({**config, "seed": 1}))
    assert dispatch(["verify", str(copy)]) == 4
    told = capfd.readouterr().out
    assert "differs from step 1: train/loss was" in told
    assert "weights and optimizer began equal, before step 1" in told
    assert "differences from the recorded run:\n  recipe " in told


def test_other_threads_are_within_tolerance_and_named(the_run: Path, verify: Verify, capfd: Any) -> None:
    found = verify(the_run, "--steps=20", "runtime.threads=2")
    assert found["differences"] == {"threads": [1, 2]}
    assert not found["promised"]
    assert found["verdict"] in ("within-tolerance", "bit-exact")  # as the kernels of this machine have it
    assert found["tolerance"] == 1e-3
    assert dispatch(["verify", str(the_run), "--steps=20", "runtime.threads=2", "--tolerance=0"]) in (0, 4)
    assert "threads  1 -> 2" in capfd.readouterr().out


def test_another_torch_and_code_leave_a_tolerance(copy: Path, verify: Verify) -> None:
    """What would be a difference under the fingerprint on record, 1e-7, may be rounding under another."""
    lines = (copy / "receipts.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["losses"]["train/loss"][3] *= 1 + 1e-7
    from paribus.engine.receipt import START, extend_chain, extend_seal, iterate_steps

    chain = seal = START
    told = []
    for text in [json.dumps(first), *lines[1:]]:
        line = json.loads(text)
        line.pop("seal")
        for step, losses in iterate_steps(line):
            chain = extend_chain(chain, step, losses)
        if "chain" in line:
            line["chain"] = chain
        seal = extend_seal(seal, line)
        told.append(json.dumps({**line, "seal": seal}))
    (copy / "receipts.jsonl").write_text("\n".join(told) + "\n")
    assert verify(copy, "--steps=20", code=4)["differs_from"] == 4
    assert verify(copy, "--steps=20", "--tolerance=1e-6")["verdict"] == "within-tolerance"
    provenance(copy, lambda s: s["fingerprint"].update(torch="1.0", code="0"))
    found = verify(copy, "--steps=20")
    assert found["verdict"] == "within-tolerance"
    assert found["largest"]["step"] == found["first"]["step"] == 4
    assert found["largest"]["relative"] == pytest.approx(1e-7, rel=1e-6)
    assert {key: pair[0] for key, pair in found["differences"].items() if key != "commit"} == {
        "torch": "1.0",
        "code": "0",
    }


def refused(folder: Path, *options: str) -> str:
    import contextlib
    import io

    err = io.StringIO()
    before = content(folder) if folder.exists() else {}
    with contextlib.redirect_stderr(err):
        assert dispatch(["verify", str(folder), *options]) == 2
    assert err.getvalue().count("\n") == 1, err.getvalue()
    assert before == (content(folder) if folder.exists() else {})
    return err.getvalue()


def test_what_cannot_be_replayed_is_one_line(the_run: Path, copy: Path, tmp_path: Path) -> None:
    assert "no run there" in refused(tmp_path / "nowhere")
    assert "one run folder is needed" in refused(the_run, "another")
    assert "--steps: found '0'; should be a whole number, at least 1" in refused(the_run, "--steps=0")
    assert "--span: not allowed with argument --steps" in refused(the_run, "--steps=1", "--span=0:1")
    assert "unrecognized arguments: --stepps" in refused(the_run, "--stepps=3")
    assert "--span: found 5; should be A:B" in refused(the_run, "--span=5")
    assert "cannot begin after step 13; it can after 0, 10, 20, 27, 30, 40, 50" in refused(the_run, "--span=13:20")
    assert "can end after 11 to 60, not 99" in refused(the_run, "--span=10:99")
    assert "seed: cannot be overridden here" in refused(the_run, "seed=3")
    if not torch.cuda.is_available():
        provenance(copy, lambda s: s.update(gpu="NVIDIA H100"))
        assert "trained on NVIDIA H100, and torch finds no CUDA device on this machine" in refused(copy)
    provenance(copy, lambda s: s["fingerprint"].update(world_size=4))
    told = refused(copy)
    assert f"trained by 4 processes, not 1; torchrun --nproc-per-node=4 -m paribus.cli verify {copy}" in told
    (copy / "receipts.jsonl").unlink()
    assert "has no receipt" in refused(copy)


def test_damage_is_one_line(copy: Path) -> None:
    path = copy / "checkpoints" / "step_00000020.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert "is not a sound checkpoint" in refused(copy, "--span=20:30")
    assert dispatch(["verify", str(copy), "--span=10:20"]) == 0
    text = (copy / "receipts.jsonl").read_text()
    (copy / "receipts.jsonl").write_text(text.replace('"gradient_norm": ', '"gradient_norm": 1', 1))
    assert "receipts.jsonl is damaged: line 1 does not follow" in refused(copy)
    (copy / "receipts.jsonl").write_text(text)
    (copy / "provenance.json").write_text("{")
    assert "provenance.json is damaged" in refused(copy)
    (copy / "provenance.json").write_text("{}")
    assert "has no fingerprint of steps 1 to 60" in refused(copy)


def test_a_config_that_does_not_compose_any_more_is_one_line(copy: Path) -> None:
    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump({**config, "model": {**config["model"], "depht": 1}}))
    assert "model.depht: no such key (did you mean depth?)" in refused(copy)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("experiment", ["smoke", "quickstart", "smoke_vit", "smoke_mobile"])
def test_deterministic_keeps_its_word_on_cuda(experiment: str, paribus: Any, tmp_path: Path) -> None:
    """In fresh processes, as CUDA's workspace is settled when it starts."""
    overrides = (f"experiment={experiment}", "runtime=deterministic", "steps=60ba", "tracker=events")
    assert paribus("train", *overrides, cwd=tmp_path).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    done = paribus("verify", str(folder), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["verdict"] == "bit-exact"
    assert json.loads(done.stdout)["promised"]
