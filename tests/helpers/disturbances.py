"""Disturb real runs at random and compare what they leave with what undisturbed ones leave, bit for bit."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.processes import (
    PATIENCE_S,
    Checkpoints,
    Processes,
    checkpoints_below,
    kill,
    processes_with,
    wait_for_checkpoints,
)
from helpers.trainings import Result, result_in
from helpers.worlds import torchrun_command
from paribus.study.rows import read_rows

RECIPE = [
    *(
        "experiment=smoke",
        "technique=cutmix",
        "batch_size=64",
        "model.dropout=0.1",
        "ema.decay=0.99",
        "runtime.device=cpu",
    ),
    *("every.log=7ba", "every.evaluate=60ba", "every.checkpoint=50ba", "runtime.threads=1", "tracker=events"),
]
OUTLIVE_S = 30  # how long a rank may live on after the end of another


@dataclass
class Account:
    """What was done to the runs and what came of it."""

    kind: str
    kills: int = 0
    flips: int = 0
    fills: int = 0
    starts: int = 0
    over: int = 0  # starts from the beginning, because no checkpoint was sound
    seconds: float = 0.0
    different: list[str] = field(default_factory=list)

    def line(self) -> str:
        troubles = {"kills": self.kills, "bit flips": self.flips, "full disks": self.fills}
        told = ", ".join(f"{n} {name}" for name, n in troubles.items() if n)
        over = f", {self.over} from the beginning" if self.over else ""
        return f"| {self.kind} | {told} | {self.starts} starts{over} | {len(self.different)} | {self.seconds:.0f} s |"


def paribus(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "paribus.cli", *arguments]


def training(steps: int, seed: int = 0) -> list[str]:
    return ["train", *RECIPE, f"steps={steps}ba", f"seed={seed}"]


def the_run(folder: Path) -> Path | None:
    found = [path for path in (folder / "runs").glob("*") if path.is_dir()] if (folder / "runs").is_dir() else []
    return found[0] if found else None


def told(folder: Path) -> str:
    """The end of what the processes in a folder said."""
    return (folder / "stderr.txt").read_text()[-2000:]


def result_of(folder: Path) -> Result:
    run = the_run(folder)
    assert run is not None, told(folder)
    return result_in(run)


def killed_study(folder: Path, times: int, dice: random.Random, steps: int = 6000, seeds: int = 4) -> Account:
    """2 arms of so many seeds, 2 runs at a time; the launcher or a cell is killed, again and again, then all end."""
    account, began = Account(f"a study of {2 * seeds} runs, 2 workers"), time.monotonic()
    for name in ("undisturbed", "disturbed"):
        (folder / name / "study").mkdir(parents=True)
        recipe = [
            *(f"  - {item}" for item in RECIPE if not item.startswith(("technique", "runtime.threads"))),
            f"  - steps={steps}ba",
        ]
        text = (
            "question: Does anything show?\nrecipe:\n"
            + "\n".join(recipe)
            + "\narms:\n  baseline: []\n  cutmix: [technique=cutmix]\n"
            f"seeds: {seeds}\nmetric: val/acc1\nsmallest_effect: 0.01\nsettings: paper\n"
        )
        (folder / name / "study" / "study.yaml").write_text(text)
    command = paribus("study", "run", "study", "--workers", "2")
    disturbed = folder / "disturbed"
    with Processes(folder) as processes:
        assert processes.end(folder / "undisturbed", command) == 0, told(folder / "undisturbed")
        launcher: subprocess.Popen[bytes] | None = None
        while account.kills < times:
            if launcher is None or launcher.poll() is not None:
                if launcher is not None and launcher.returncode == 0:
                    break  # it got through before we were done with it
                launcher = processes.start(disturbed, command)
                account.starts += 1
            time.sleep(dice.uniform(0, 4))
            alive = processes_with(str(disturbed))
            if alive:
                account.kills += kill(dice.choice(alive))
        if launcher is not None and launcher.poll() is None:
            launcher.kill()
            launcher.wait()
        assert processes.end(disturbed, command) == 0, told(disturbed)
    account.starts += sum(path.read_text().count("== start ") for path in (disturbed / "runs" / "study").glob("*.log"))
    account.different = different_rows(folder / "undisturbed", disturbed)
    account.seconds = time.monotonic() - began
    return account


def different_rows(one: Path, other: Path) -> list[str]:
    """Names of cells whose row, weights or record differ."""

    def rows(folder: Path) -> dict[str, Any]:
        found = read_rows(folder / "study" / "results.jsonl")
        return {row.cell: (row.id, row.state, row.metrics, row.curves) for row in found}

    ours, theirs = rows(one), rows(other)
    different = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    for run in (one / "runs" / "study").iterdir():
        if run.is_dir() and not result_in(run).same_as(result_in(other / "runs" / "study" / run.name)):
            different.add(run.name)
    return sorted(different)


def killed_ranks(folder: Path, times: int, dice: random.Random, steps: int = 3000) -> Account:
    """Two ranks under torchrun; one of the processes is killed, again and again, and the same command given again."""
    account, began = Account("a run of 2 ranks"), time.monotonic()

    def command() -> list[str]:
        return torchrun_command(2, "-m", "paribus.cli", *training(steps))

    for name in ("undisturbed", "disturbed"):
        (folder / name).mkdir()
    disturbed = folder / "disturbed"
    with Processes(folder) as processes:
        assert processes.end(folder / "undisturbed", command()) == 0, told(folder / "undisturbed")
        while account.kills < times:
            before = checkpoints_below(disturbed)
            process = processes.start(disturbed, command())
            account.starts += 1
            if dice.random() < 0.25:
                time.sleep(dice.uniform(0, 3))  # while the ranks are starting
            else:
                _reach_a_random_moment(disturbed, before, process, dice)
            alive = processes_with(str(disturbed))
            if process.poll() is None and alive:
                account.kills += kill(dice.choice(alive))
            code = process.wait(PATIENCE_S)
            _gone(disturbed, OUTLIVE_S)
            if code == 0:
                break
        account.starts += 1
        assert processes.end(disturbed, command()) == 0, told(disturbed)
    if not result_of(disturbed).same_as(result_of(folder / "undisturbed")):
        account.different.append("the run")
    account.seconds = time.monotonic() - began
    return account


def _reach_a_random_moment(
    folder: Path, before: Checkpoints, process: subprocess.Popen[bytes], dice: random.Random
) -> None:
    """Wait for a few new checkpoints, so that every start gets somewhere on any machine, and then a bit longer."""
    wait_for_checkpoints(folder, before, dice.randint(1, 4), process)
    with suppress(subprocess.TimeoutExpired):
        process.wait(dice.uniform(0, 0.5))


def _gone(folder: Path, seconds: float) -> None:
    """Wait until no process works in this folder; none may outlive its job by more than this."""
    deadline = time.monotonic() + seconds
    while left := processes_with(str(folder)):
        assert time.monotonic() < deadline, f"{left} outlived their job by {seconds} s"
        time.sleep(0.1)


def flipped_checkpoints(folder: Path, times: int, dice: random.Random, steps: int = 3000) -> Account:
    """One run, killed at random moments; between two starts one bit of one of its checkpoints is turned."""
    account, began = Account("a run whose checkpoints rot"), time.monotonic()
    for name in ("undisturbed", "disturbed"):
        (folder / name).mkdir()
    disturbed, code = folder / "disturbed", -1
    with Processes(folder) as processes:
        assert processes.end(folder / "undisturbed", paribus(*training(steps))) == 0
        while account.flips < times and code != 0:
            before = checkpoints_below(disturbed)
            process = processes.start(disturbed, paribus(*training(steps)))
            account.starts += 1
            _reach_a_random_moment(disturbed, before, process, dice)
            if process.poll() is None:
                account.kills += kill(process.pid)
                process.wait()
            account.flips += _flip(disturbed, dice)
            code = process.returncode
            if code == 2:  # every checkpoint is damaged: it says so and does not start over by itself
                said = told(disturbed).strip().splitlines()[-1]
                assert "no checkpoint is sound" in said, said
                shutil.rmtree(disturbed / "runs")
                account.over += 1
        if code != 0:
            _finish_or_start_over(processes, disturbed, steps, account)
    if not result_of(disturbed).same_as(result_of(folder / "undisturbed")):
        account.different.append("the run")
    account.seconds = time.monotonic() - began
    return account


def _flip(folder: Path, dice: random.Random) -> int:
    """Turn one random bit of a random checkpoint; 1 if there was one."""
    run = the_run(folder)
    paths = sorted((run / "checkpoints").glob("step_*.pt")) if run else []
    if not paths or (run is not None and (run / "DONE").exists()):
        return 0
    path = dice.choice(paths)
    content = bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    return 1


def _finish_or_start_over(processes: Processes, folder: Path, steps: int, account: Account) -> None:
    account.starts += 1
    code = processes.end(folder, paribus(*training(steps)))
    if code == 2:
        shutil.rmtree(folder / "runs")
        account.over += 1
        account.starts += 1
        code = processes.end(folder, paribus(*training(steps)))
    assert code == 0, told(folder)


def filled_disk(folder: Path, times: int, dice: random.Random, steps: int = 3000) -> Account:
    """One run on a file system of 4 MiB (tmpfs; needs root) that is filled up at random moments and emptied again."""
    account, began = Account("a run on a disk that fills"), time.monotonic()
    for name in ("undisturbed", "disturbed"):
        (folder / name).mkdir()
    disturbed = folder / "disturbed"
    with Processes(folder) as processes, _small_disk(disturbed / "runs"):
        assert processes.end(folder / "undisturbed", paribus(*training(steps))) == 0
        code = -1
        while account.fills < times and code != 0:
            before = checkpoints_below(disturbed)
            process = processes.start(disturbed, paribus(*training(steps)))
            account.starts += 1
            _reach_a_random_moment(disturbed, before, process, dice)
            account.fills += _fill(disturbed / "runs" / "filler")
            code = process.wait(PATIENCE_S)
            assert code in (0, 1, 2), f"exit code {code}"
            (disturbed / "runs" / "filler").unlink()
        if code != 0:
            account.starts += 1
            assert processes.end(disturbed, paribus(*training(steps))) == 0, told(disturbed)
        if "Traceback" in (disturbed / "stderr.txt").read_text():
            account.different.append("a traceback")
        if not result_of(disturbed).same_as(result_of(folder / "undisturbed")):
            account.different.append("the run")
    account.seconds = time.monotonic() - began
    return account


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _fill(path: Path) -> int:
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return 1


KINDS: dict[str, tuple[Callable[[Path, int, random.Random], Account], int]] = {
    "study": (killed_study, 100),
    "ranks": (killed_ranks, 20),
    "flips": (flipped_checkpoints, 20),
    "full": (filled_disk, 10),
}
