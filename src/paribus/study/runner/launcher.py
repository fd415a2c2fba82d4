"""`paribus study run`: every cell that is not done gets a process, at most so many at a time, until all have ended.

The launcher keeps nothing that it would miss: what is done, running or failed stands in the run folders and logs. So
one that was killed just goes on when started again, two side by side share the work; cells notice neither. No torch.
"""

import subprocess
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, REQUEUE
from paribus.study import rows
from paribus.study.plan import Cell, Plan
from paribus.study.rows import Row
from paribus.study.runner import cells, devices
from paribus.study.runner.cells import Standing
from paribus.study.runner.eta import Pace
from paribus.study.runner.progress import Board
from paribus.study.runner.signals import Leave
from paribus.study.spec import Study

POLL_S = 0.1
LOOK_S = 1.0  # between two looks at cells that are not our children


@dataclass(frozen=True)
class Settings:
    """runs: where run folders lie. gpus: names for CUDA_VISIBLE_DEVICES, none for the CPU. repeat: a recorded row is no
    reason not to run a cell; only its run folder is."""

    runs: Path
    workers: int
    gpus: Sequence[str] = ()
    per_gpu: int = 1
    repeat: bool = False


@dataclass
class Mine:
    """A cell whose process is our child."""

    cell: Cell
    process: subprocess.Popen[bytes]
    device: str
    began: float


@dataclass
class Launch:
    """One `paribus study run`. After `run`: how every cell stands."""

    study: Study
    plan: Plan
    settings: Settings
    board: Board
    leave: Leave
    waiting: deque[Cell] = field(default_factory=deque)
    mine: dict[str, Mine] = field(default_factory=dict)
    theirs: dict[str, tuple[Cell, Standing]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    fails: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)  # arm -> why its input was refused
    looked: float = 0.0

    def __post_init__(self) -> None:
        self.rows = {row.cell: row for row in rows.read_rows(self.study.results_path)}
        self.before = self.rows
        self.cells = self.plan.by_name()
        self.pace = Pace(self.rows.values())

    def run(self) -> None:
        """Until nothing is left to do or to wait for, or the person wants to leave.

        Raises ConfigError, with cells still running, when the disk is full.
        """
        self._sort_out()
        while (self.waiting or self.mine or self.theirs) and not self.leave.asked:
            if self.leave.hung_up:
                self.board.detach()
            self._reap()
            if time.monotonic() - self.looked > LOOK_S:
                self._look()
            self._fill()
            self.board.tick(*self.counts(), self._left())
            time.sleep(POLL_S)
        for name in [name for name in self.failed if self._standing(self.cells[name]).state == "done"]:
            del self.failed[name]  # by another launcher, meanwhile
            self._is_done(self.cells[name])
        self._write([])

    def counts(self) -> tuple[int, int, int, int]:
        """Done, running, failed, all."""
        return len(self.done), len(self.mine) + len(self.theirs), len(self.failed), len(self.plan.cells)

    def repeated(self) -> tuple[list[str], list[str]]:
        """Cells that were on record before and have been run anew: with equal numbers, bit for bit, and with others."""
        anew = [
            (name, (row.metrics, row.curves) == (was.metrics, was.curves))
            for name, row in self.rows.items()
            if (was := self.before.get(name)) and was.id == row.id and was != row and was.state == row.state == "done"
        ]
        return [name for name, equal in anew if equal], [name for name, equal in anew if not equal]

    def _sort_out(self) -> None:
        """What is done already, what runs though we did not start it, and what is missing."""
        found: list[Row] = []
        for cell in self.plan.cells:
            now = self._standing(cell)
            if now.state == "done":
                self.done.add(cell.name)
                if (row := self._row(cell)) is not None:
                    found.append(row)
            elif now.state == "running":
                self._adopt(cell, now)
            else:
                self.waiting.append(cell)
        self._write(found)
        self.board.begin(*self.counts(), len(self.waiting))

    def _standing(self, cell: Cell) -> Standing:
        row = self.rows.get(cell.name)
        recorded = row is not None and row.state == "done" and not self.settings.repeat
        return cells.standing(self.settings.runs, cell, recorded)

    def _row(self, cell: Cell) -> Row | None:
        try:
            return rows.row_of(self.settings.runs / cell.folder, self.study.name, cell.arm)
        except (ConfigError, KeyError) as error:
            self.board.say(f"warning: {cell.name} gets no new row: {error}")
            return None

    def _adopt(self, cell: Cell, now: Standing) -> None:
        self.theirs[cell.name] = (cell, now)
        self.board.adopted(cell, now)

    def _reap(self) -> None:
        """Settle the children that have ended."""
        for name, child in list(self.mine.items()):
            code = child.process.poll()
            if code is None:
                continue
            del self.mine[name]
            with suppress(OSError):  # a full disk; the run folder tells the same
                cells.note_end(self.settings.runs, child.cell, code)
            now = self._standing(child.cell)
            if now.state == "done":
                self.pace.saw(child.cell.arm, time.monotonic() - child.began)
                self._is_done(child.cell)
            elif now.state == "running":  # another process was quicker, and ours was refused
                self._adopt(child.cell, now)
            elif code == REQUEUE:
                self.board.say(f"again    {name}: it stopped with a checkpoint")
                self.waiting.append(child.cell)
            else:
                self._has_failed(child.cell, self._why(child.cell, now, code), final=code == BAD_CONFIG)

    def _why(self, cell: Cell, now: Standing, code: int) -> str:
        if code < 0:
            return f"killed by signal {-code}"
        if code == 0:
            return f"ended well, but {cell.folder} is not done; what would run may have changed since it was planned"
        told = cells.told_last(cells.log_of(self.settings.runs, cell), 1)
        return now.why or next(iter(told), f"exit code {code}")

    def _look(self) -> None:
        """Settle the cells of others, which we cannot wait for."""
        self.looked = time.monotonic()
        for name, (cell, _) in list(self.theirs.items()):
            now = self._standing(cell)
            if now.state == "running":
                self.theirs[name] = (cell, now)
                continue
            del self.theirs[name]
            if now.state == "done":
                self._is_done(cell)
            elif now.state == "failed":
                self._has_failed(cell, now.why)
            else:  # killed, or stopped with a checkpoint
                self.waiting.appendleft(cell)

    def _is_done(self, cell: Cell) -> None:
        self.done.add(cell.name)
        row = self._row(cell)
        self._write([row] if row else [])
        self.board.tick(*self.counts(), self._left())
        self.board.done(cell, self.study.spec.metric, row)

    def _has_failed(self, cell: Cell, why: str, final: bool = False) -> None:
        """Once more, or listed. final: its input was refused, as it will be again, for every seed of the arm."""
        self.fails[cell.name] += 1
        again = not final and self.fails[cell.name] <= self.study.spec.retries
        self.board.failed(cell, why, again)
        if again:
            self.waiting.append(cell)
            return
        self.failed[cell.name] = why
        if final:
            self.refused[cell.arm] = why
        if (row := self._row(cell)) is not None:
            self._write([row])

    def _fill(self) -> None:
        """Start cells while there is room."""
        skipped = [cell for cell in self.waiting if cell.arm in self.refused]
        for cell in skipped:
            self.waiting.remove(cell)
            self.failed[cell.name] = f"not started, since {cell.arm} was refused: {self.refused[cell.arm]}"
        for _ in range(len(self.waiting)):
            room, device = self._room(self.waiting[0])
            if not room or self.leave.asked:
                return
            cell = self.waiting.popleft()
            now = self._standing(cell)
            if now.state == "done":
                self._is_done(cell)
            elif now.state == "running":
                self._adopt(cell, now)
            else:
                self._start(cell, device)

    def _start(self, cell: Cell, device: str | None) -> None:
        try:
            process = cells.start(self.settings.runs, cell, self.study.spec.threads, device)
        except OSError as error:
            raise ConfigError(
                f"{self.settings.runs} cannot be written: {error.strerror}; make room, or choose another with "
                f"--runs DIR, and run the same command again; {len(self.mine)} cells go on"
            ) from error
        if process is None:
            self._adopt(cell, Standing("running"))
            return
        self.mine[cell.name] = Mine(cell, process, device or "", time.monotonic())
        self.board.started(cell, process.pid, device)

    def _room(self, cell: Cell) -> tuple[bool, str | None]:
        """Whether a cell may start now, and on which GPU (None: the cell's device is not ours to choose)."""
        here = [now for _, now in self.theirs.values() if now.host in ("", self.board.host)]
        if len(self.mine) + len(here) >= self.settings.workers:
            return False, None
        if not self.settings.gpus or self.plan.devices[cell.arm] not in ("auto", "cuda"):
            return True, None
        used = [*(child.device for child in self.mine.values()), *(now.device for now in here)]
        device = devices.free(self.settings.gpus, self.settings.per_gpu, used)
        return device is not None, device

    def _left(self) -> float | None:
        now = time.time()
        theirs = [(cell.arm, now - s.since if s.since else 0.0) for cell, s in self.theirs.values()]
        mine = [(m.cell.arm, time.monotonic() - m.began) for m in self.mine.values()]
        return self.pace.left(Counter(cell.arm for cell in self.waiting), [*mine, *theirs], self.settings.workers)

    def _write(self, new: Sequence[Row]) -> None:
        after = rows.update(self.study, new, self.plan.ids())
        self.rows = {row.cell: row for row in after}
