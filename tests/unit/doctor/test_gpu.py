"""`paribus doctor gpu`: its checks pass on a CPU, and each kind of check sees what it is for when that is broken."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from paribus.cli.main import dispatch
from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.protocols import Method
from paribus.doctor import gpu, gpu_data, gpu_steps, gpu_times, gpu_training, gpu_waits
from paribus.doctor.gpu_check import GpuCheck, Mismatch, NotHere, Passed
from paribus.doctor.gpu_report import collect, default_file, format_report
from paribus.doctor.gpu_run import run_check, run_checks
from paribus.doctor.gpu_steps import compose
from paribus.recipe import build
from paribus.techniques.adamp.kernels import batched

CPU = torch.device("cpu")
PROCESSES = ("kill and resume", "two ranks")  # tests/process/test_doctor.py
CHECKS = {f"{c.part} {c.name}": c for c in gpu.list_checks(CPU, quick=True) if c.name not in PROCESSES}
CUDA_ONLY = ("graph replay", "second device", "compile=", "waits ", "memory")


def check(name: str) -> Any:
    """The result of the check of this part and name, made anew: what tests change is read when it runs."""
    return run_check(next(c for c in gpu.list_checks(CPU, quick=True) if f"{c.part} {c.name}" == name))


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_holds_on_a_cpu_or_says_why_it_is_skipped(name: str) -> None:
    result = run_check(CHECKS[name])
    assert result.state == ("skipped" if any(word in name for word in CUDA_ONLY) else "ok"), result.found
    assert result.found
    assert "\n" not in result.found


class Fickle:
    """A rule that answers otherwise from its second call on: what a device does that computes something else."""

    def __init__(self, rule: Callable[..., Any], change: Callable[[Any], Any]) -> None:
        self._rule, self._change, self._calls = rule, change, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._calls += 1
        found = self._rule(*args, **kwargs)
        return found if self._calls == 1 else self._change(found)


def brighter(images: Tensor) -> Tensor:
    return images + 2


def shifted(batch: Batch) -> Batch:
    return replace(batch, inputs=batch.inputs.roll(1, -1))


def break_augmentation(patch: pytest.MonkeyPatch) -> None:
    rule, levels, share = gpu_data.AUGMENTATIONS["RandAugment"]
    broken = (Fickle(rule, brighter), levels, share)
    patch.setattr(gpu_data, "AUGMENTATIONS", {**gpu_data.AUGMENTATIONS, "RandAugment": broken})


def break_transform(patch: pytest.MonkeyPatch) -> None:
    rule, tolerance = gpu_data.TRANSFORMS["CutMix"]
    patch.setattr(gpu_data, "TRANSFORMS", {**gpu_data.TRANSFORMS, "CutMix": (Fickle(rule, shifted), tolerance)})


def idle_augmentation(patch: pytest.MonkeyPatch) -> None:
    same: Any = lambda images, draws, name: images  # noqa: E731
    patch.setattr(gpu_data, "AUGMENTATIONS", {**gpu_data.AUGMENTATIONS, "ColorJitter": (same, 0, 0.0)})


def break_streams(patch: pytest.MonkeyPatch) -> None:
    right = gpu_data.uniform
    patch.setattr(gpu_data, "uniform", lambda *args: right(*args) + 2.0**-24)


def break_resize(patch: pytest.MonkeyPatch) -> None:
    right = gpu_data.resize.resized_crop
    patch.setattr(gpu_data.resize, "resized_crop", lambda *args: right(*args) ^ 1)


def break_loader(patch: pytest.MonkeyPatch) -> None:
    right = gpu_data._load_batch
    patch.setattr(gpu_data, "_load_batch", lambda *args: shifted(right(*args)))


def break_prefetch(patch: pytest.MonkeyPatch) -> None:
    right = gpu_data.PrefetchLoader.batch
    patch.setattr(gpu_data.PrefetchLoader, "batch", lambda self, step: right(self, max(step - 1, 0)))


def break_optimizer(patch: pytest.MonkeyPatch) -> None:
    """The batched form forgets a part of the update."""
    right = batched.take_step
    patch.setattr(
        batched, "take_step", lambda rule, options, *rest: right(rule, options._replace(lr=0.9 * options.lr), *rest)
    )


def break_second_network(patch: pytest.MonkeyPatch) -> None:
    """From the second training on, the network starts from other weights."""

    def other(method: Method) -> Method:
        with torch.no_grad():
            for weight in method.model.parameters():  # type: ignore[attr-defined]
                weight.mul_(1.01)
        return method

    patch.setattr(gpu_steps, "build_method", Fickle(build.build_method, other))


def break_checkpoint(patch: pytest.MonkeyPatch) -> None:
    """A resumed run loses the moments of its optimizer."""
    right = gpu_training.checkpoint.load_newest

    def load(folder: Path) -> Any:
        found = right(folder)
        if found is not None:
            for state in found.method["optimizer"]["state"].values():
                state["exp_avg"].zero_()
        return found

    patch.setattr(gpu_training.checkpoint, "load_newest", load)


def break_loop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("paribus.bench.loop.cases.measure_difference", lambda subject: 0.5)


BROKEN = {
    "correct RandAugment": break_augmentation,
    "correct ColorJitter": idle_augmentation,
    "correct CutMix": break_transform,
    "correct random numbers": break_streams,
    "correct crops": break_resize,
    "correct crops ": break_loader,
    "correct prefetch": break_prefetch,
    "correct AdamP, all forms": break_optimizer,
    "correct SGDP, all forms": break_optimizer,
    "correct smoke in fp64, 4 steps": break_second_network,
    "correct smoke in fp32, 4 steps": break_second_network,
    "correct smoke twice, deterministic": break_second_network,
    "correct stop and resume": break_checkpoint,
    "times smoke: loop beside the bare step": break_loop,
    "times adamp's step": break_optimizer,
}


@pytest.mark.parametrize("name", BROKEN)
def test_negative_control_what_is_broken_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[name](monkeypatch)
    result = check(name.strip())
    assert result.state == "failed", result.found


def test_negative_control_a_broken_augmentation_is_named_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_augmentation(monkeypatch)
    monkeypatch.chdir(tmp_path)
    words = ["doctor", "gpu", "--device", "cpu", "--quick", "--only", "RandAugment"]
    assert dispatch(words) == 1
    out = capsys.readouterr().out
    assert "## Failed\n\n* correct, RandAugment: " in out
    (written,) = tmp_path.iterdir()
    data = json.loads(written.read_text())
    assert not data["passed"]
    assert {c["name"]: c["state"] for c in data["checks"]} == {"RandAugment": "failed", "RandAugment, bilinear": "ok"}


def test_the_command_passes_and_writes_a_table_and_a_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["doctor", "gpu", "--device=cpu", "--quick", "--only", "crops", "--json", "a.json", "--out", "a.md"]
    assert dispatch(words) == 0
    data = json.loads((tmp_path / "a.json").read_text())
    keys = {"format", "date", "command", "hardware", "software", "passed", "checks", "verdict"}
    assert set(data) == keys, "whoever reads committed files relies on these"
    assert set(data["checks"][0]) == {"part", "name", "state", "found", "seconds", "numbers"}
    assert {"name", "cpu", "cores"} <= set(data["hardware"])
    assert (tmp_path / "a.md").read_text() == format_report(data)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.md"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    ("words", "said"),
    [([], "--device cpu"), (["--device=cpu", "--only=nonsense"], "nonsense"), (["--json=no/a"], "no is")],
)
def test_what_cannot_be_done_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["doctor", "gpu", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


# compile and waits, whose CUDA parts a CPU does not have


def test_compiled_steps_are_compared_with_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compile_model", lambda model, mode: model)
    for accumulate in (1, 2):
        assert gpu_training.compare_compiled("true", accumulate, CPU, 2, "smoke").numbers["difference"] == 0


def test_negative_control_a_compiler_that_computes_something_else_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return 1.1 * self.model(x)

    monkeypatch.setattr(build, "compile_model", lambda model, mode: Wrong(model) if mode else model)
    with pytest.raises(Mismatch, match="the loss of step"):
        gpu_training.compare_compiled("true", 1, CPU, 2, "smoke")


class NumbersAreWaits(TorchDispatchMode):
    """Reading a tensor's number stands for a wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name == "aten::_local_scalar_dense":
            raise RuntimeError("called a synchronizing CUDA operation")
        return func(*args, **(kwargs or {}))


class Peeking:
    """A transform that reads a number of every batch."""

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        assert batch.inputs.sum().item() < 1e9
        return batch


def test_negative_control_a_wait_in_a_step_is_seen_with_its_place() -> None:
    recipe = compose("experiment=smoke", "optimizer=sgd", "optimizer.lr=0.1")  # AdamW reads its counter on a CPU
    assert gpu_waits.find_wait(recipe, CPU, 2, NumbersAreWaits) is None
    found = gpu_waits.find_wait(replace(recipe, transforms={"peeking": Peeking()}), CPU, 2, NumbersAreWaits)
    assert found is not None
    assert "synchronizing" in found
    assert "test_gpu.py, line" in found


def test_steps_that_may_wait_come_before(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    @contextmanager
    def guard() -> Any:
        taken.append("guard")
        yield

    monkeypatch.setattr(gpu_steps.Prepared, "take", lambda self, step: taken.append(str(step)) or {})
    gpu_waits.find_wait(compose("experiment=smoke"), CPU, 2, guard)
    assert taken == ["0", "1", "2", "guard", "3", "4"]


@pytest.mark.parametrize("experiment", ["imagenette_resnet50", "cifar10_small", "smoke"])
def test_recipes_without_files_keep_their_size_and_augmentation(experiment: str) -> None:
    recipe = compose(f"experiment={experiment}")
    made = gpu_steps.without_files(recipe, 4, 8)
    prepared = gpu_steps.prepare(replace(made, model=compose("experiment=smoke").model), CPU, 1)
    assert prepared.data.sizes["train"] == 8
    batch = prepared.loader.batch(0)
    assert batch.inputs.shape == (4, 3, recipe.data.size, recipe.data.size)  # type: ignore[attr-defined]
    assert len(prepared.loader.batch(0).targets) == 4


def test_settings_of_a_recipe_end_with_it() -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    with gpu_steps.runtime_applied(
        compose("experiment=smoke", "runtime=deterministic", "runtime.tf32=true").runtime, CPU
    ):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_float32_matmul_precision() == "high"
    assert not torch.are_deterministic_algorithms_enabled()
    assert before == (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
    )


# The budget


def test_what_does_not_fit_in_is_listed_and_a_part_takes_nothing_of_the_next() -> None:
    now = [0.0]

    def lasting(seconds: float) -> Callable[[], Passed]:
        def run() -> Passed:
            now[0] += seconds
            return Passed("done")

        return run

    checks = [
        *(GpuCheck("correct", f"c{i}", 10, lasting(10)) for i in range(6)),
        *(GpuCheck("waits", f"w{i}", 10, lasting(10)) for i in range(3)),
        GpuCheck("times", "t", 10, lasting(30)),
        GpuCheck("times", "late", 10, lasting(10)),
    ]
    results = run_checks(checks, 100.0, lambda line: None, lambda: now[0])
    assert [r.state for r in results] == [*["ok"] * 4, *["not run"] * 2, *["ok"] * 2, "not run", "ok", "ok"]
    assert all("--minutes" in r.found for r in results if r.state == "not run")
    assert now[0] <= 100


def test_whatever_a_check_raises_is_its_result() -> None:
    def raising(error: Exception) -> Callable[[], Passed]:
        def run() -> Passed:
            raise error

        return run

    for error, state, found in (
        (Mismatch("a"), "failed", "a"),
        (NotHere("a"), "skipped", "a"),
        (RuntimeError("CUDA error: a"), "failed", "RuntimeError: CUDA error: a"),
    ):
        result = run_check(GpuCheck("correct", "name", 1, raising(error)))
        # explain_exception adds this file and line where it stands outside a site-packages folder
        assert result.state == state
        assert result.found.split(" (")[0] == found


def test_checks_have_names_of_their_own_and_fit_into_ten_minutes() -> None:
    for quick in (True, False):
        checks = gpu.list_checks(CPU, quick)
        assert len({(c.part, c.name) for c in checks}) == len(checks)
    eager = [c for c in checks if "compile" not in c.name and "graphs" not in c.name]
    assert sum(c.seconds for c in eager) < 600


def test_the_verdict_takes_the_first_setting_that_is_about_as_fast_as_the_fastest() -> None:
    rates = {"net": {"fp32": 100.0, "bf16": 300.0, "bf16 fused": 310.0}, "other": {"fp32": 100.0, "tf32": 90.0}}
    (net, words), (other, none) = gpu_times.recommend(rates, None, 8)
    assert net == "net: bf16, 300 images/s"
    assert words == "update.precision=bf16 runtime.tf32=true"
    assert (other, none) == ("other: fp32, 100 images/s", "")
    assert gpu_times.recommend(rates, 50.0, 8)[0][1].endswith("data.workers=6")
    assert "pack it" in gpu_times.recommend(rates, 50.0, 4)[0][1]


def test_memory_that_grows_is_told() -> None:
    assert gpu_times.compare_memory(1000, 1010)
    with pytest.raises(Mismatch, match="it grows"):
        gpu_times.compare_memory(1000, 1100)


def test_the_verdict_comes_from_the_checks_of_a_report() -> None:
    results = [
        run_check(GpuCheck("times", "net: fp32", 1, lambda: Passed("", {"images_per_second": 100.0}))),
        run_check(GpuCheck("times", "net: bf16", 1, lambda: Passed("", {"images_per_second": 200.0}))),
        run_check(GpuCheck("times", "decoding", 1, lambda: Passed("", {"images_per_second": 400.0}))),
    ]
    data = collect(results, CPU, ["doctor", "gpu"])
    assert data["verdict"] == [
        {"for": "net: bf16, 200 images/s", "overrides": "update.precision=bf16 runtime.tf32=true data.workers=1"}
    ]
    assert "## Recommended" in format_report(data)
    assert default_file({"name": "NVIDIA H100 80GB HBM3"}) == "doctor-nvidia-h100-80gb-hbm3.json"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("index", range(len(gpu.list_checks(CPU, quick=False))))
def test_every_check_holds_on_cuda(index: int) -> None:
    result = run_check(gpu.list_checks(torch.device("cuda", 0), quick=False)[index])
    assert result.state in ("ok", "skipped"), f"{result.name}: {result.found}"
