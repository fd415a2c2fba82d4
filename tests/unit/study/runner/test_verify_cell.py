"""`paribus verify STUDY --cell`: a cell trained again beside its row, where bits are promised and where not."""

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import finished, made_up_plan, written
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError, RunFailed
from paribus.study.plan import Cell
from paribus.study.rows import format_row, read_row, read_rows
from paribus.study.runner import verify_cell as module
from paribus.study.runner.verify_cell import CellVerdict, verify_cell
from paribus.study.spec import Study

Train = Callable[..., None]


class Ended:
    """A process that has ended."""

    def __init__(self, code: int) -> None:
        self.code = code

    def wait(self) -> int:
        return self.code

    poll = wait


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two arms of four seeds with rows; those of cutmix have 0.5, 0.52, 0.54 and 0.56."""
    made = written(tmp_path / "study", seeds=4)
    cells = made_up_plan(made).cells
    rows = []
    for cell in cells:
        finished(tmp_path / cell.folder, cell, 0.5 + 0.02 * cell.seed)
        found = read_row(tmp_path / cell.folder, "study", cell.arm)
        assert found is not None
        rows.append(found)
    made.results_path.write_text("".join(map(format_row, rows)))
    return made


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> Train:
    """What the cell's process leaves behind."""

    def choose(
        value: float = 0.5, code: int = 0, changed: dict[str, Any] | None = None, other_id: str = "", gpu: str = ""
    ) -> None:
        def start(runs: Path, cell: Cell, *_: Any, **__: Any) -> "Ended":
            if code == 0:
                finished(runs / cell.folder, replace(cell, id=other_id or cell.id), value)
                path = runs / cell.folder / "provenance.json"
                known = json.loads(path.read_text())
                known["segments"][-1]["fingerprint"] |= changed or {}
                known["segments"][-1] |= {"gpu": gpu} if gpu else {}
                path.write_text(json.dumps(known))
            else:
                runs.mkdir(parents=True, exist_ok=True)
                (runs / f"{cell.folder}.log").write_text("== start\nparibus: out of memory\n")
            return Ended(code)

        monkeypatch.setattr(module, "start_process", start)

    return choose


def verify(study: Study, folder: Path, tolerance: float | None = None) -> CellVerdict:
    return verify_cell(study, "cutmix/s0", tolerance, folder / "runs")


def test_the_same_bits_are_equal_whatever_else_differs(study: Study, trains: Train, tmp_path: Path) -> None:
    for i, changed in enumerate(({}, {"torch": "3.0"})):
        trains(0.5, changed=changed)
        found = verify(study, tmp_path / str(i))
        assert (found.outcome, found.recorded, found.here) == ("bit-equal", 0.5, 0.5)


def test_where_bits_are_promised_any_other_value_differs(study: Study, trains: Train, tmp_path: Path) -> None:
    trains(0.5 + 1e-9)
    found = verify(study, tmp_path)
    assert (found.outcome, found.allowed) == ("differs", 0.0)


def test_where_bits_are_promised_another_curve_differs_though_the_end_is_equal(
    study: Study, trains: Train, tmp_path: Path
) -> None:
    trains(0.5)
    study.results_path.write_text(study.results_path.read_text().replace("[10, 0.25]", "[10, 0.26]"))
    found = verify(study, tmp_path)
    assert (found.here, found.recorded, found.outcome) == (0.5, 0.5, "differs")


@pytest.mark.parametrize(("value", "outcome"), [(0.55, "within tolerance"), (0.57, "differs"), (0.43, "differs")])
def test_elsewhere_it_may_be_as_far_apart_as_seeds_are(
    value: float, outcome: str, study: Study, trains: Train, tmp_path: Path
) -> None:
    trains(value, changed={"torch": "3.0"})
    found = verify(study, tmp_path)
    assert found.allowed == pytest.approx(0.06)  # three times the standard deviation of 0.52, 0.54, 0.56
    assert found.outcome == outcome


def test_a_given_tolerance_counts(study: Study, trains: Train, tmp_path: Path) -> None:
    trains(0.57)
    assert verify(study, tmp_path / "a", 0.1).outcome == "within tolerance"
    assert verify(study, tmp_path / "b", 0.01).outcome == "differs"


def test_a_wrong_row_makes_no_room_for_itself(study: Study, trains: Train, tmp_path: Path) -> None:
    trains(0.5, changed={"torch": "3.0"})
    rows = read_rows(study.results_path)
    wrong = [replace(r, metrics={**r.metrics, "val/acc1": 0.95}) if r.cell == "cutmix/s0" else r for r in rows]
    study.results_path.write_text("".join(map(format_row, wrong)))
    found = verify(study, tmp_path)
    assert (found.outcome, found.recorded, found.here) == ("differs", 0.95, 0.5)
    assert found.allowed == pytest.approx(0.06)
    assert 3 * statistics.stdev([0.95, 0.52, 0.54, 0.56]) > 0.45  # what its own row would have allowed


def test_two_other_seeds_say_nothing_of_a_spread(
    study: Study, trains: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = study.results_path.read_text().splitlines(keepends=True)
    study.results_path.write_text("".join(line for line in lines if '"seed": 2' not in line))
    trains(0.51, changed={"torch": "3.0"})
    assert verify(study, tmp_path).outcome == "differs"
    assert dispatch(["verify", str(study.folder), "--cell", "cutmix/s0"]) == 4
    assert "with fewer than three other seeds of the arm no difference is allowed" in capsys.readouterr().out


@pytest.mark.parametrize(("deterministic", "outcome"), [(False, "within tolerance"), (True, "differs")])
def test_cuda_repeats_bits_only_where_it_was_told_to(
    deterministic: bool, outcome: str, study: Study, trains: Train, tmp_path: Path
) -> None:
    rows = read_rows(study.results_path)
    gpu = [
        replace(r, hardware={**r.hardware, "gpu": "one"}, fingerprint={**r.fingerprint, "deterministic": deterministic})
        for r in rows
    ]
    study.results_path.write_text("".join(map(format_row, gpu)))
    trains(0.5 + 1e-4, changed={"deterministic": deterministic}, gpu="one")
    assert verify(study, tmp_path).outcome == outcome


def test_a_tolerance_of_an_accuracy_is_in_points(
    study: Study, trains: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", str(study.folder), "--cell", "cutmix/s0", "--tolerance"]
    trains(0.51)
    assert dispatch([*command, "0.5"]) == 4
    assert dispatch([*command, "2pt"]) == 0
    assert dispatch([*command, "0.01"]) == 2
    assert "Give the unit pt" in capsys.readouterr().err


def test_what_cannot_be_verified_is_told(study: Study, trains: Train, tmp_path: Path) -> None:
    trains()
    with pytest.raises(ConfigError, match=r"found cutmix/s7.*should be a cell of"):
        verify_cell(study, "cutmix/s7", None, tmp_path / "a")
    trains(other_id="another")
    with pytest.raises(ConfigError, match="cutmix/s0 is another recipe by now"):
        verify(study, tmp_path / "b")
    trains(code=1)
    with pytest.raises(RunFailed, match=r"cutmix/s0: .*out of memory"):
        verify(study, tmp_path / "c")
    study.results_path.write_text("")
    with pytest.raises(ConfigError, match="cutmix/s0 has no result"):
        verify(study, tmp_path / "d")


def test_the_command_says_what_came_out(
    study: Study, trains: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["verify", str(study.folder), "--cell", "cutmix/s0"]
    trains(0.5)
    assert dispatch(command) == 0
    assert (
        "bit-equal: all metrics and curves are those of its row (val/acc1 0.5, on record 0.5)"
        in capsys.readouterr().out
    )
    trains(0.55, changed={"torch": "3.0"})
    assert dispatch([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "within tolerance"
    trains(0.7, changed={"torch": "3.0"})
    assert dispatch(command) == 4
    out = capsys.readouterr().out
    assert "differs: val/acc1 0.7, on record 0.5 (0.2 apart, allowed 0.06)" in out
    assert "what may change bits and differs: torch (not there on record, 3.0 here)" in out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--cell", "cutmix/s0", "--steps", "3"], "leave out --steps"),
        (["--cell", "cutmix/s0", "data.root=x"], "leave out data.root=x"),
        ([], "is a study; --cell ARM/sN says which"),
    ],
)
def test_options_of_runs_are_refused(
    more: list[str], said: str, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["verify", str(study.folder), *more]) == 2
    assert said in capsys.readouterr().err
