"""`paribus list runs`: every state, every kind of damage, for eyes and for machines, at once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.run_folders import METRICS, made
from paribus.cli.list import found_runs
from paribus.cli.main import dispatch
from paribus.cli.run_table import plain, table
from paribus.core.lock import locked


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    made(folder, "a-s10-00")
    made(folder, "a-s2-00")
    made(folder, "b-failed", "FAILED", "the loss is not finite\n\nTraceback", summary=False)
    stopped = made(folder, "c-preempted", "PREEMPTED", summary=False, steps="30ep")
    (stopped / "checkpoints" / "last").write_text("step_00000037.pt\n")
    made(folder, "d-killed", None, summary=False)
    (folder / "no-run").mkdir()
    (folder / "a file").write_text("")
    return folder


def test_every_state(runs: Path) -> None:
    with locked(made(runs, "e-running", None, summary=False)):
        rows = {row.run: row for row in found_runs(runs)}
    assert list(rows) == ["a-s2-00", "a-s10-00", "b-failed", "c-preempted", "d-killed", "e-running"]
    assert [row.state for row in rows.values()] == ["done", "done", "failed", "preempted", "stopped", "running"]
    assert (rows["a-s2-00"].step, rows["a-s2-00"].total) == (60, 60)
    assert rows["b-failed"].note == "the loss is not finite"
    assert (rows["c-preempted"].step, rows["c-preempted"].total, rows["c-preempted"].length) == (37, None, "30ep")
    assert (rows["d-killed"].step, rows["d-killed"].total) == (20, 60)
    assert rows["d-killed"].metrics == {"val/acc1": 0.5, "lr": 1}
    assert rows["e-running"].note.startswith("by process ")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "summary.json is torn": lambda run: (run / "summary.json").write_text('{"step": 6'),
    "summary.json is a list": lambda run: (run / "summary.json").write_text("[1]"),
    "summary.json is binary": lambda run: (run / "summary.json").write_bytes(b"\xff\xfe\x00"),
    "summary.json holds other types": lambda run: (run / "summary.json").write_text(
        '{"step": "x", "steps": [], "metrics": {"val/acc1": "high", "time/train_s": null}}'
    ),
    "summary.json is a folder": lambda run: ((run / "summary.json").unlink(), (run / "summary.json").mkdir()),
    "config.yaml is binary": lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe\x00"),
    "config.yaml is empty": lambda run: (run / "config.yaml").write_text(""),
    "provenance.json is torn": lambda run: (run / "provenance.json").write_text("{"),
    "provenance.json holds other types": lambda run: (run / "provenance.json").write_text(
        '{"segments": [{"time": 3}]}'
    ),
    "provenance.json holds no objects": lambda run: (run / "provenance.json").write_text('{"segments": [3]}'),
    "events.jsonl is damaged": lambda run: (run / "events.jsonl").write_bytes(b'\xff\n{"step": 1}\n[]\n"x"\n3\n'),
    "events.jsonl holds other types": lambda run: (run / "events.jsonl").write_text('{"step": "x", "values": "y"}\n'),
    "last is damaged": lambda run: (run / "checkpoints" / "last").write_bytes(b"\xff\n"),
    "the marker is binary": lambda run: (run / "FAILED").write_bytes(b"\xff\n"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("marker", ["DONE", "FAILED", None])
def test_a_damaged_run_does_not_stop_the_list(
    damage: str, marker: str | None, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = made(runs, "broken", marker)
    DAMAGE[damage](broken)
    assert dispatch(["list", "runs", str(runs)]) == 0
    shown = capsys.readouterr().out
    assert "broken" in shown
    assert "d-killed" in shown
    assert dispatch(["list", "runs", str(runs), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 6


def test_plain_columns_are_aligned_and_whole(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "a-name-that-is-much-longer-than-eighty-columns-would-ever-allow-for-in-a-table-that-cuts-s0-0123456789ab"
    made(runs, long, steps="1200ba")
    assert dispatch(["list", "runs", str(runs)]) == 0
    head, *lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert head.split() == ["run", "state", "step", "val", "acc1", "train", "s", "started", "note"]
    for line in lines:
        assert line[head.index("state") - 1] == " "
    (shown,) = [line for line in lines if line.startswith(long)]
    assert shown.split()[1:5] == ["done", "60/60", "98.77%", "8.1"]
    (failed,) = [line for line in lines if line.startswith("b-failed")]
    assert failed.endswith("the loss is not finite")
    assert plain(found_runs(runs))[0] == head


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_keeps_its_width_and_every_letter_of_a_name(width: int, runs: Path) -> None:
    from rich.console import Console

    page = Console(width=width, force_terminal=True, color_system=None)
    with page.capture() as captured:
        page.print(table(found_runs(runs), width))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert {"a-s2-00", "a-s10-00", "b-failed", "c-preempted"} <= {line.split()[0] for line in lines}
    assert ("started" in lines[0]) is (width >= 80)


def test_json_has_everything(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["list", "runs", "--json", str(runs)]) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert first == {
        "run": "a-s2-00",
        "folder": str(runs / "a-s2-00"),
        "state": "done",
        "step": 60,
        "total": 60,
        "length": "60ba",
        "metrics": METRICS,
        "started": "2026-11-22T10:00:00+00:00",
        "note": "",
        "differs": {},
    }


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["list", "runs", str(tmp_path / "nowhere")]) == 0
    assert capsys.readouterr().out == f"no runs under {tmp_path / 'nowhere'}\n"
    assert dispatch(["list", "runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert dispatch(["list", "runs", "--jsn"]) == 2
    assert dispatch(["list", "models", "--json"]) == 2


def test_the_description_of_timm_sends_nobody_with_weights_away(capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["list", "models"]) == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("timm ")]
    assert "init_from=FILE" in line
    assert "never pretrained" not in line


def test_configs_of_the_user_are_listed_with_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"tint": "# @package _global_\n# Tints.\n", "bare": "", "cutmix": "# Mine.\n"}.items():
        path = tmp_path / "own" / "technique" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert dispatch(["list", "techniques"]) == 0
    ours = capfd.readouterr().out.splitlines()
    assert dispatch(["list", "techniques", "--config-dir", "own"]) == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    width = max(len(line.split()[0]) for line in lines)
    assert {line for line in lines if line not in ours} == {
        f"{'tint':<{width}}  Tints.  (own)",
        f"{'bare':<{width}}  (own)",
    }
    assert len(lines) == len(ours) + 2
    assert err.startswith("warning: own/technique/cutmix.yaml is never taken, since paribus has a technique=cutmix")
    for group in ("models", "experiments", "data"):
        assert dispatch(["list", group, "--config-dir", "nowhere"]) == 2
        assert "--config-dir nowhere: there is no such folder" in capfd.readouterr().err
