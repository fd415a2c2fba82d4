"""Whole commands as they look: in a terminal, in a log, with --quiet, in a sweep, stopped and failed."""

import re
from pathlib import Path

import pytest

from helpers.terminals import train_on_terminal
from paribus.cli.main import dispatch

RUN = ("experiment=smoke", "technique=cutmix", "steps=20ba")


def words(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"-[0-9a-f]{12}\b", "-HASH", line)
    line = re.sub(r"ETA \d+:\d\d", "ETA T", line)
    line = re.sub(r" *[\d,]+ images/s", " N images/s", line)
    return re.sub(r"(\d+\.\d s|\d+:\d\d)\b", "T", line)


LOG = """\
paribus train: experiment smoke, technique cutmix → composing...
smoke-cutmix-s0
  recipe        smoke, seed 0
  technique     cutmix: alpha=1 prob=1
  data          Synthetic size=12 n=256 val_n=100 noise=40 pad=2 flip=false: train 256, val 100 images of 3×12×12, 10 classes
  model         ConvNet widths=[16,32] depth=1 norm=none: 5,418 parameters, 228 k MACs
  weight decay  on 3 tensors (5,360 parameters), not on 3 tensors (58 parameters)
  optimizer     AdamW lr=0.01 weight_decay=0.05; Cosine
  length        20 steps of 32 images (2.5 epochs of 8)
  runs on       cpu, fp32, 1 thread, 1 process
  folder        runs/smoke-cutmix-s0-HASH
step 10/20  loss L N images/s  lr 5.78e-03  ETA T+
step 20/20  loss L N images/s  lr 6.16e-05  val acc1 A
done: smoke-cutmix-s0, 20 steps
  val     acc1 A  acc5 A  loss L
  time    T of training, T of evaluation; T in all
  folder  runs/smoke-cutmix-s0-HASH
next
  evaluate again  paribus eval runs/smoke-cutmix-s0-HASH
  export weights  paribus export runs/smoke-cutmix-s0-HASH
  compare         paribus list runs
  another seed    paribus train experiment=smoke technique=cutmix steps=20ba runtime.threads=1 seed=1
""".splitlines()  # noqa: E501


def test_a_log_and_the_commands_it_ends_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch(["train", *RUN, "runtime.threads=1"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    shown = [re.sub(r"loss \d\.\d{4}", "loss L", words(line)) for line in out.splitlines()]
    assert [re.sub(r"(acc[15]) \d+\.\d\d%", r"\1 A", line) for line in shown] == LOG

    commands = [line.split("paribus ")[1].split() for line in out.split("\nnext\n")[1].splitlines()]
    assert [command[0] for command in commands] == ["eval", "export", "list", "train"]
    for command in commands:
        assert dispatch(command) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.parametrize("columns", [60, 80])
def test_a_terminal_ends_clean(columns: int, tmp_path: Path) -> None:
    shown = train_on_terminal(tmp_path, *RUN, columns=columns)
    assert shown.code == 0, shown.raw
    assert "0/20" in shown.raw, "there was a bar"
    lines = shown.screen
    assert lines[0].startswith("paribus train: experiment smoke, technique cutmix")
    top = next(i for i, line in enumerate(lines) if line.startswith("╭─ smoke-cutmix-s0 ─"))
    assert len(lines[top]) == columns
    assert top <= 2, "the first line, wrapped where the terminal is narrow, and nothing between it and the frame"
    assert not [line for line in lines if "━" in line or "ETA" in line], "and it is gone"
    assert "done: smoke-cutmix-s0, 20 steps" in lines
    assert lines[-1] == ""
    assert not re.search(r"\x1b(?!\[[\d;]*m)", shown.raw.split("done: ")[1]), "nothing but colours after the result"
    assert shown.raw.rindex("\x1b[?25h") > shown.raw.rindex("\x1b[?25l")


def test_in_ci_a_terminal_gets_plain_lines(tmp_path: Path) -> None:
    shown = train_on_terminal(tmp_path, *RUN, CI="true")
    assert shown.code == 0
    assert "\x1b" not in shown.raw
    assert "step 10/20  loss" in shown.raw


def test_ctrl_c_and_going_on(tmp_path: Path) -> None:
    run = ("experiment=smoke", "steps=4000ba", "every.log=10ba", "every.evaluate=200ba")
    stopped = train_on_terminal(tmp_path, *run, interrupt_at=lambda raw: "ETA" in raw)
    assert stopped.code == 75
    end = stopped.screen[stopped.screen.index("paribus: SIGINT; stopping after this step with a checkpoint") :]
    found = re.fullmatch(r"stopped with a checkpoint: smoke-baseline-s0, step ([\d,]+) of 4,000", end[1])
    assert found
    assert "resume  paribus train experiment=smoke steps=4000ba" in " ".join(end)
    assert not [line for line in stopped.screen if "━" in line or "ETA" in line]

    step = found[1]
    again = train_on_terminal(tmp_path, *run, interrupt_at=lambda raw: "ETA" in raw)
    assert again.code == 75
    assert f"after step {step} of 4,000" in again.raw
    assert f"{step.replace(',', '')}/4000  0:00  ETA ?" in again.raw, "the bar starts where the run stands"


def test_a_failed_run_leaves_no_bar(tmp_path: Path) -> None:
    shown = train_on_terminal(tmp_path, "experiment=smoke", "optimizer=sgd", "optimizer.lr=1e30", columns=300)
    assert shown.code == 1
    assert shown.screen[-2].startswith("paribus: runs/smoke-baseline-s0-")
    assert "is not finite" in shown.screen[-2]
    assert not [line for line in shown.screen if "━" in line or "ETA" in line]


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch(["train", flag, *RUN]) == 0
    out, err = capfd.readouterr()
    assert re.fullmatch(r"done: val/acc1 [\d.]+%, [\d.]+ s of training; runs/smoke-cutmix-s0-\w+\n", out)
    assert err == ""
    assert dispatch(["train", *RUN, flag]) == 0
    again = capfd.readouterr().out
    assert "is done already: val/acc1" in again
    assert again.count("\n") == 1
    assert "train/loss" in (next((tmp_path / "runs").iterdir()) / "events.jsonl").read_text()


def test_quiet_in_a_sweep_tells_results_and_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = ["-m", "-q", "experiment=smoke", "steps=10ba", "seed=0,1"]
    assert dispatch(["train", *sweep]) == 0
    first, second, *table = capfd.readouterr().out.splitlines()
    assert first.startswith("seed=0: done: val/acc1")
    assert second.startswith("seed=1: done: val/acc1")
    assert [line.split()[0] for line in table if line] == ["job", "1", "2"]
    assert dispatch(["train", *sweep, "optimizer.lr=-1"]) == 2
    assert capfd.readouterr().err.count("optimizer.lr: found -1;") == 2


def test_a_sweep_in_a_terminal(tmp_path: Path) -> None:
    shown = train_on_terminal(tmp_path, "-m", "experiment=smoke", "steps=10ba", "seed=0,1")
    assert shown.code == 0
    assert len([line for line in shown.screen if line.startswith("done: ")]) == 2
    assert "2 jobs: 2 ended with 0" in shown.screen
    assert "next" not in shown.screen
    assert not [line for line in shown.screen if "━" in line]
