"""`paribus doctor`: what is missing is one line with what to do about it, and what is there is no complaint."""

import importlib.metadata
import json
from pathlib import Path

import pytest

from helpers.image_trees import tree
from paribus.cli.main import dispatch
from paribus.data import cifar
from paribus.doctor import data, machine
from paribus.doctor.finding import Finding, format_findings
from paribus.doctor.machine import Gpu

H100 = Gpu("NVIDIA H100", "81559 MiB", "570.1", "Disabled")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no compiler, no data, no login and no Slurm; torch and the packages are there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "PARIBUS_DATA",
        "PARIBUS_CACHE",
        "XDG_CACHE_HOME",
        "CC",
        "CXX",
        "NETRC",
        "WANDB_API_KEY",
        "WANDB_MODE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "ask_torch", lambda: (0, ""))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def one_line(out: str, name: str) -> str:
    (line,) = [line for line in out.splitlines() if line.split()[1] == name]
    return line


def test_on_a_bare_machine_each_thing_missing_is_one_line_with_the_remedy(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["doctor"]) == 0, "nothing was asked that needs them"
    out = capsys.readouterr().out
    for name, remedy in (
        ("data", "PARIBUS_DATA"),
        ("data", "paribus data prepare imagenette --download"),
        ("compiler", "apt install gcc"),
        ("W&B", "wandb login"),
    ):
        line = one_line(out, name)
        assert line.startswith("missing ")
        assert remedy in line.partition("; ")[2], line
    assert all(line.split()[0] in ("ok", "missing", "warning") for line in out.splitlines())
    assert list(bare.iterdir()) == [], "nothing is written"


def test_what_is_there_is_no_complaint(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (bare / "data" / "cifar-10-batches-py").mkdir(parents=True)
    (bare.parent / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password x\n")
    monkeypatch.setenv("CC", "true")
    monkeypatch.setenv("CXX", "true")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert dispatch(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in ("data", "compiler", "W&B"):
        assert one_line(out, name).startswith("ok "), out
    assert "cifar10" in one_line(out, "data")


def test_json_has_the_same_findings(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["doctor", "--json", "found.json"]) == 0
    found = json.loads((bare / "found.json").read_text())
    assert format_findings([Finding(**row) for row in found]) == capsys.readouterr().out.strip("\n")
    assert set(found[0]) == {"name", "state", "found", "remedy"}


def test_nothing_is_missing_without_a_remedy(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARIBUS_DATA", str(bare / "nowhere"))
    monkeypatch.setattr(machine, "find_version", lambda package: None)
    monkeypatch.setenv("PARIBUS_CACHE", "/proc/nothing/can/be/made/here")  # not by root either
    monkeypatch.setenv("OMP_NUM_THREADS", "500")
    findings = machine.check_machine(Path("/proc/runs"))
    wrong = {f.name: f for f in findings if f.state != "ok"}
    assert {"packages", "torch", "cores", "compiler", "cache", "data", "runs", "W&B"} <= set(wrong)
    assert all(f.remedy for f in wrong.values())
    assert not any(f.remedy for f in findings if f.state == "ok")
    assert all("\n" not in f.found + f.remedy for f in findings)


@pytest.mark.parametrize(
    ("gpus", "build", "asked", "state", "words"),
    [
        ([], None, (0, ""), "ok", "CPU"),
        ([], "13.2", (0, ""), "ok", "CPU"),
        ([H100], None, (0, ""), "warning", "CUDA build"),
        ([H100], "13.2", (0, "driver too old"), "warning", "driver too old"),
        ([H100], "13.2", (1, ""), "ok", "driver 570.1"),
        ([], "13.2", (2, ""), "ok", "2 devices"),
        ([H100._replace(mig="Enabled")], "13.2", (1, ""), "ok", "MIG"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_told(
    gpus: list[Gpu], build: str | None, asked: tuple[int, str], state: str, words: str
) -> None:
    found = machine.check_gpu(gpus, build, lambda: asked)
    assert found.state == state
    assert words in f"{found.found} {found.remedy}"


def test_the_cuda_build_is_read_without_importing_torch() -> None:
    import torch

    assert machine.read_cuda_build() == torch.version.cuda


def test_packages_are_compared_with_what_paribus_requires(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=2.11", 'ruff>=0.12; extra == "dev"', "nothing-of-the-kind>=1"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda package: wanted)
    monkeypatch.setattr(machine, "find_version", {"torch": "2.10.0"}.get)
    found = machine.check_packages()
    assert found.state == "missing"
    assert "torch is 2.10.0, needed is >=2.11" in found.found
    assert "nothing-of-the-kind is not installed" in found.found
    assert "ruff" not in found.found


def test_a_compiler_that_does_not_run_is_told(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(bare / "no-such-compiler"))
    found = machine.check_compiler()
    assert found.state == "missing"
    assert "no-such-compiler does not run" in found.found


def test_free_space_is_compared_with_what_is_needed(tmp_path: Path) -> None:
    assert machine.check_space("runs", tmp_path / "a" / "b", 10**18).state == "missing"
    assert machine.check_space("runs", tmp_path / "a" / "b", 1).state in ("ok", "warning")
    assert list(tmp_path.iterdir()) == []


def test_folders_of_cifar_are_those_of_its_data_set() -> None:
    assert {name: files[0] for name, files in cifar._FILES.items()} == data.CIFAR_FOLDERS


def test_a_pack_that_was_cut_short_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, classes=2, train=2, val=2)
    assert dispatch(["data", "prepare", "folder", "--root", str(tmp_path), "--size", "16", "--workers", "1"]) == 0
    monkeypatch.setenv("PARIBUS_DATA", str(tmp_path))
    (found,) = data.check_packs()
    assert (found.name, found.state) == ("pack folder-16", "ok")
    assert "train 4" in found.found
    (pixels,) = (tmp_path / "packed" / "folder-16").glob("train-*.pixels")
    pixels.write_bytes(pixels.read_bytes()[:-1])
    (found,) = data.check_packs()
    assert found.state == "missing"
    assert pixels.name in found.found
    assert "paribus data check folder" in found.remedy
