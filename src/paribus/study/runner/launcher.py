"""`paribus study run`: a process for every cell that is not done, a limited number at a time, until all have ended.

All arms of one seed start before those of the next: a study that is cut short is a smaller study, and the arms that a
comparison pairs train beside each other, under the same load, so that their times can be compared.

The launcher keeps no state of its own: what is done, running or failed is in the run folders and logs. So a killed
launcher resumes when started again, and two side by side share the work; cells notice neither. Each runs as many at a
time as it may, besides those of the other; those of a launcher that has died (orphans) count, or a restarted one would
run too many. No torch.
"""

import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, REQUEUE
from paribus.core.runfolder import newest_checkpoint_step
from paribus.study import rows
from paribus.study.plan import Cell, Plan, order_cells
from paribus.study.rows import Row
from paribus.study.runner import cells
from paribus.study.runner.cells import CellState
from paribus.study.runner.eta import EtaEstimator
from paribus.study.runner.launchers import is_anothers, registered
from paribus.study.runner.progress import LaunchProgress
from paribus.study.runner.repeat import results_path
from paribus.study.runner.signals import LaunchStop, request_checkpoint
from paribus.study.runner.slots import LaunchSettings, find_slot
from paribus.study.spec import Study

POLL_S = 0.1
EXTERNAL_POLL_S = 1.0  # between polls of cells that are not our children


@dataclass
class ChildProcess:
    """A cell whose process is our child."""

    cell: Cell
    process: subprocess.Popen[bytes]
    device: str
    started_at: float


@dataclass
class Launch:
    """Cells of a study, run here. chosen: which; None: all of the plan. cells: these, in the order in which they start.
    After `run`: the state of each."""

    study: Study
    plan: Plan
    settings: LaunchSettings
    progress: LaunchProgress
    stop: LaunchStop
    chosen: tuple[Cell, ...] | None = None
    cells: tuple[Cell, ...] = ()
    waiting: deque[Cell] = field(default_factory=deque)
    children: dict[str, ChildProcess] = field(default_factory=dict)
    external_cells: dict[str, tuple[Cell, CellState]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    failure_counts: Counter[str] = field(default_factory=Counter)
    refused_arms: dict[str, str] = field(default_factory=dict)  # arm -> why its input was refused
    last_poll: float = 0.0
    name: str = ""  # of this launcher, once it has started a cell
    registration: ExitStack = field(default_factory=ExitStack)
    asked_to_stop: set[int] = field(default_factory=set)  # processes
    stopping: dict[str, int] = field(default_factory=dict)  # the time is up: cell -> process, of those waited for

    def __post_init__(self) -> None:
        self.results_path = results_path(self.study, self.settings.runs, self.settings.repeat)
        self.rows = {row.cell: row for row in rows.read_rows(self.results_path)}
        self.cells = order_cells(self.plan.cells if self.chosen is None else self.chosen)
        self.eta = EtaEstimator(rows.read_rows(self.study.results_path))

    def run(self) -> None:
        """Run until nothing is left to start or wait for, a stop is requested, or the time is up and our cells have
        stopped.

        Raises ConfigError, with cells still running, when the disk is full.
        """
        self._read_initial_states()
        with self.registration:
            while self.is_unfinished() and not self.stop.requested:
                if self.stop.hung_up:
                    self.progress.detach()
                self._collect_exited()
                if time.monotonic() - self.last_poll > EXTERNAL_POLL_S:
                    self._poll_external()
                if self.stop.seconds_over() < 0:
                    self._start_waiting()
                elif not self._stop_cells():
                    break
                self.progress.update(*self.counts(), self._seconds_left())
                time.sleep(POLL_S)
        for cell in [cell for cell in self.cells if cell.name in self.failed]:
            if self._read_state(cell).state == "done":  # by another launcher meanwhile
                del self.failed[cell.name]
                self._mark_done(cell)
        self._write_rows([])

    def is_unfinished(self) -> bool:
        """Whether a cell is neither done nor has failed for good."""
        return bool(self.waiting or self.children or self.external_cells)

    def counts(self) -> tuple[int, int, int, int]:
        """Done, running, failed, all."""
        return len(self.done), len(self.children) + len(self.external_cells), len(self.failed), len(self.cells)

    def _read_initial_states(self) -> None:
        """Which cells are done, which already run in other processes, and which are missing."""
        found: list[Row] = []
        for cell in self.cells:
            now = self._read_state(cell)
            if now.state == "done":
                self.done.add(cell.name)
                if (row := self._read_row(cell)) is not None:
                    found.append(row)
            elif now.state == "running":
                self._adopt(cell, now)
            else:
                self.waiting.append(cell)
        self._write_rows(found)
        self.progress.begin(*self.counts(), len(self.waiting))

    def _read_state(self, cell: Cell) -> CellState:
        row = self.rows.get(cell.name)
        recorded = row is not None and row.state == "done" and not self.settings.repeat
        return cells.read_state(self.settings.runs, cell, recorded)

    def _read_row(self, cell: Cell) -> Row | None:
        try:
            return rows.read_row(self.settings.runs / cell.folder, self.study.name, cell.arm)
        except (ConfigError, KeyError) as error:
            self.progress.print_line(f"warning: {cell.name} gets no new row: {error}")
            return None

    def _adopt(self, cell: Cell, now: CellState) -> None:
        self.external_cells[cell.name] = (cell, now)
        self.progress.adopted(cell, now)

    def _collect_exited(self) -> None:
        """Handle the children that have ended."""
        for name, child in list(self.children.items()):
            code = child.process.poll()
            if code is None:
                continue
            del self.children[name]
            with suppress(OSError):  # a full disk; the run folder has the same state
                cells.write_end(self.settings.runs, child.cell, code)
            now = self._read_state(child.cell)
            was_asked = child.process.pid in self.asked_to_stop
            if now.state == "done":
                self.eta.add_seconds(child.cell.arm, time.monotonic() - child.started_at)
                self._mark_done(child.cell)
            elif now.state == "running":  # another process was faster, and ours was refused
                self._adopt(child.cell, now)
            elif code == REQUEUE or (was_asked and code == -signal.SIGTERM):
                step = newest_checkpoint_step(self.settings.runs / child.cell.folder)
                self.progress.stopped(child.cell, step, again=not was_asked)
                self.waiting.append(child.cell)
            else:
                why = cells.explain_exit(self.settings.runs, child.cell, now, code)
                self._mark_failed(child.cell, why, final=code == BAD_CONFIG)

    def _stop_cells(self) -> bool:
        """The time is up: ask our cells and all orphans to stop, each once. Whether to wait for them any longer."""
        self.stopping = {name: child.process.pid for name, child in self.children.items()}
        for name, now in self._external_here().items():
            if now.launcher and not is_anothers(self.settings.runs, now, self.name):
                self.stopping[name] = now.process
        for process in {*self.stopping.values()} - self.asked_to_stop - {0}:  # 0: an orphan's, not known yet
            request_checkpoint(process)
            self.asked_to_stop.add(process)
        return bool(self.stopping) and self.stop.seconds_over() < self.settings.grace_s

    def _external_here(self) -> dict[str, CellState]:
        external = {name: now for name, (_, now) in self.external_cells.items()}
        return {name: now for name, now in external.items() if now.host in ("", self.progress.host)}

    def _poll_external(self) -> None:
        """Handle the cells of other processes, which we cannot wait for."""
        self.last_poll = time.monotonic()
        for name, (cell, _) in list(self.external_cells.items()):
            now = self._read_state(cell)
            if now.state == "running":
                self.external_cells[name] = (cell, now)
                continue
            del self.external_cells[name]
            if now.state == "done":
                self._mark_done(cell)
            elif now.state == "failed":
                self._mark_failed(cell, now.why)
            else:  # killed, or stopped with a checkpoint
                self.waiting.appendleft(cell)

    def _mark_done(self, cell: Cell) -> None:
        self.done.add(cell.name)
        row = self._read_row(cell)
        self._write_rows([row] if row else [])
        self.progress.update(*self.counts(), self._seconds_left())
        self.progress.done(cell, self.study.spec.metric, row)

    def _mark_failed(self, cell: Cell, why: str, final: bool = False) -> None:
        """Retry the cell, or list it as failed. final: its input was refused, as for every seed of the arm."""
        self.failure_counts[cell.name] += 1
        again = not final and self.failure_counts[cell.name] <= self.study.spec.retries
        self.progress.failed(cell, why, again)
        if again:
            self.waiting.append(cell)
            return
        self.failed[cell.name] = why
        if final:
            self.refused_arms[cell.arm] = why
        if (row := self._read_row(cell)) is not None:
            self._write_rows([row])

    def _start_waiting(self) -> None:
        """Start cells while workers are free."""
        skipped = [cell for cell in self.waiting if cell.arm in self.refused_arms]
        for cell in skipped:
            self.waiting.remove(cell)
            self.failed[cell.name] = f"not started, since {cell.arm} was refused: {self.refused_arms[cell.arm]}"
        for _ in range(len(self.waiting)):
            room, device = self._find_slot(self.waiting[0])
            if not room or self.stop.requested:
                return
            cell = self.waiting.popleft()
            now = self._read_state(cell)
            if now.state == "done":
                self._mark_done(cell)
            elif now.state == "running":
                self._adopt(cell, now)
            else:
                self._start_cell(cell, device)

    def _start_cell(self, cell: Cell, device: str | None) -> None:
        try:
            self.name = self.name or self.registration.enter_context(registered(self.settings.runs))
            process = cells.start_process(
                self.settings.runs, cell, self.study.spec.threads, device, started_by=self.name
            )
        except OSError as error:
            raise ConfigError(
                f"{self.settings.runs} cannot be written: {error.strerror}; make room, or choose another with "
                f"--runs DIR, and run the same command again; {len(self.children)} cells still running"
            ) from error
        if process is None:
            now = self._read_state(cell)
            self._adopt(cell, now if now.state == "running" else CellState("running"))  # else: it has just ended
            return
        self.children[cell.name] = ChildProcess(cell, process, device or "", time.monotonic())
        self.progress.started(cell, process.pid, device)

    def _find_slot(self, cell: Cell) -> tuple[bool, str | None]:
        wants_gpu = self.plan.devices[cell.arm] in ("auto", "cuda")
        own = [child.device for child in self.children.values()]
        return find_slot(self.settings, wants_gpu, own, [*self._external_here().values()], self.name)

    def _seconds_left(self) -> float | None:
        now = time.time()
        external = [(cell.arm, now - s.since if s.since else 0.0) for cell, s in self.external_cells.values()]
        children = [(m.cell.arm, time.monotonic() - m.started_at) for m in self.children.values()]
        waiting, running = Counter(cell.arm for cell in self.waiting), [*children, *external]
        return self.eta.seconds_left(waiting, running, max(self.settings.workers, len(running)))

    def _write_rows(self, new: Sequence[Row]) -> None:
        after = rows.update_rows(self.study, new, self.plan.ids(), self.results_path)
        self.rows = {row.cell: row for row in after}
