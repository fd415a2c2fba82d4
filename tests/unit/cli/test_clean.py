"""`paribus clean` removes what can go, and nothing else whatever is tried."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.image_trees import pets
from helpers.packs import QUIET
from helpers.run_folders import made
from paribus.cli.main import dispatch
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.lock import locked
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.runs.leftovers import find_leftovers, remove


def add_checkpoint(run: Path, step: int) -> Path:
    content = b"weights" * 100 + bytes([step])
    path = run / "checkpoints" / f"step_{step:08d}.pt"
    path.write_bytes(content + hashlib.sha256(content).digest())
    (run / "checkpoints" / "last").write_text(path.name + "\n")
    return path


def run_of(folder: Path, name: str = "a-s0-00", state: str | None = "DONE") -> Path:
    run = made(folder, name, state)
    for step in (20, 40, 60):
        add_checkpoint(run, step)
    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, links as such. The locks, which come and go, are left out."""
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and path.name != "lock"
    }


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run_of(tmp_path / "runs")
    return tmp_path / "runs"


OLD = {f"a-s0-00/checkpoints/step_000000{step}.pt" for step in (20, 40)}


def test_it_lists_sizes_and_a_total_and_removes_with_yes_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(runs)
    assert dispatch(["clean"]) == 0
    shown = capsys.readouterr().out
    assert "a-s0-00 (2 files)" in shown
    assert "1 kB in all; --yes removes it" in shown
    assert contents(runs) == before
    assert dispatch(["clean", "--yes"]) == 0
    assert "1 kB removed" in capsys.readouterr().out
    assert contents(runs) == {name: content for name, content in before.items() if name not in OLD}
    assert dispatch(["clean"]) == 0
    assert capsys.readouterr().out == "nothing to remove under runs\n"


def test_json_lists_the_files(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["clean", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {f"runs/{name}" for name in OLD} == set(found["files"])
    assert found["removed_by_yes"] is True


@pytest.mark.parametrize("place", ["study", "study/repeat-1", "deep/er/still"])
def test_runs_at_any_depth(place: str, runs: Path) -> None:
    run = run_of(runs / place, "b-s0-00")
    assert dispatch(["clean", "--yes"]) == 0
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["last", "step_00000060.pt"]


def _a_link(place: str) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        elsewhere = run.parents[1] / "elsewhere"
        path = run / place if place else run
        shutil.move(path, elsewhere)
        path.symlink_to(elsewhere)

    return make


def _named_in(file: str, text: str) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        for step in (20, 40):
            path = run.parents[1] / file.replace("#", str(step))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("#", str(step)))
            (path.parent / "events.jsonl").write_text("")

    return make


def _exported(run: Path) -> None:
    for step in (20, 40):
        (run / f"model{step}.json").write_text(json.dumps({"run": {"step": step}}))


# what is done to a run that otherwise could lose two checkpoints
PROTECTED: dict[str, Callable[[Path], object]] = {
    "failed": lambda run: runfolder.write_state(run, "FAILED", "the loss is not finite"),
    "preempted": lambda run: runfolder.write_state(run, "PREEMPTED"),
    "killed": lambda run: runfolder.write_state(run, None),
    "no pointer": lambda run: (run / "checkpoints" / "last").unlink(),
    "a pointer to nothing": lambda run: (run / "checkpoints" / "last").write_text("step_00000080.pt\n"),
    "a pointer to the first": lambda run: (run / "checkpoints" / "last").write_text("step_00000020.pt\n"),
    "a pointer that is binary": lambda run: (run / "checkpoints" / "last").write_bytes(b"\xff"),
    "a pointer out of the folder": lambda run: (run / "checkpoints" / "last").write_text("../../step_00000060.pt\n"),
    "the last is damaged": lambda run: (run / "checkpoints" / "step_00000060.pt").write_bytes(b"x" * 900),
    "the last is cut off": lambda run: (run / "checkpoints" / "step_00000060.pt").write_bytes(b""),
    "checkpoints is a link": _a_link("checkpoints"),
    "the run is a link": _a_link(""),
    "no config": lambda run: (run / "config.yaml").unlink(),
    "no record": lambda run: (run / "events.jsonl").unlink(),
    "another run starts from them": _named_in(
        "runs/b-#/config.yaml", "teacher: {path: 'old/place/runs/a-s0-00/checkpoints/step_000000#.pt'}\n"
    ),
    "a study starts from them": _named_in(
        "experiments/x#/study.yaml", "recipe: [model.weights=runs/a-s0-00/checkpoints/step_000000#.pt]\n"
    ),
    "a plan has them": _named_in("experiments/x#/plan.jsonl", '"model.weights=a-s0-00/checkpoints/step_000000#.pt"'),
    "the plan of a tuning has them": _named_in(
        "experiments/x#/tune/plan.jsonl", '"model.weights=a-s0-00/checkpoints/step_000000#.pt"'
    ),
    "exported": _exported,
}


@pytest.mark.parametrize("what", PROTECTED)
def test_what_must_stay_stays(what: str, runs: Path) -> None:
    PROTECTED[what](runs / "a-s0-00")
    before = contents(runs.parent)
    assert dispatch(["clean", "--yes", "--packs"]) == 0
    assert contents(runs.parent) == before


def test_what_a_process_holds_stays(runs: Path) -> None:
    (runs / "a-s0-00" / "checkpoints" / "step_00000080.pt.tmp-7").write_text("half")
    before = contents(runs)
    with locked(runs / "a-s0-00"):
        assert list(find_leftovers(runs)) == []
        assert dispatch(["clean", "--yes"]) == 0
        assert contents(runs) == before


def test_what_a_process_has_taken_since_it_was_listed_stays(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = find_leftovers(runs)
    before = contents(runs)
    with locked(runs / "a-s0-00"), pytest.raises(ConfigError, match="is in use by process"):
        remove(found)
    runfolder.write_state(runs / "a-s0-00", None)  # and it goes on, then is killed
    assert remove(found) == 0
    assert {name for name in before if name not in contents(runs)} == {"a-s0-00/DONE"}
    runfolder.write_state(runs / "a-s0-00", "DONE")

    def taken(leftover: object, named: object) -> int:
        raise ConfigError("runs/a is in use")

    monkeypatch.setattr("paribus.cli.clean.remove", taken)
    assert dispatch(["clean", "--yes"]) == 1
    assert capsys.readouterr().err == "kept: runs/a is in use\n"


@pytest.mark.parametrize("state", ["DONE", "FAILED", None])
def test_temporary_files_of_killed_writes_go_and_files_that_look_alike_stay(state: str | None, tmp_path: Path) -> None:
    run = made(tmp_path, "a", state)
    gone = ["summary.json.tmp-12", "checkpoints/step_00000020.pt.tmp-9", "checkpoints/last.tmp-3", "lock.now-host-1"]
    kept = ["notes.tmp-12", "summary.json.bak", "checkpoints/mine.pt", "checkpoints/step_20.pt.old", "wandb/x.tmp-1"]
    (run / "wandb").mkdir()
    for name in (*gone, *kept):
        (run / name).write_text("x")
    (run / "config.yaml.tmp-4").symlink_to(run / "notes.tmp-12")
    before = contents(tmp_path)
    assert dispatch(["clean", str(tmp_path), "--yes"]) == 0
    assert set(before) - set(contents(tmp_path)) == {f"a/{name}" for name in gone}


def test_a_later_checkpoint_than_the_last_stays(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    later = run / "checkpoints" / "step_100000000.pt"
    later.write_bytes(b"half of one")
    assert dispatch(["clean", str(tmp_path), "--yes"]) == 0
    assert later.is_file()


def test_before_the_first_run_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch(["clean"]) == 0
    assert capsys.readouterr().out == "nothing to remove under runs\n"


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["clean", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"paribus: {tmp_path / 'nowhere'}: no such folder\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """data/pets and data/packed/folder-16, made of it."""
    root = tmp_path / "data"
    pets(root / "pets")
    request = PrepareRequest("folder", root / "pets", size=16, out=root / "packed" / "folder-16")
    prepare(request, QUIET)
    return root


def edit_record(data: Path, **changes: object) -> None:
    path = data / "packed" / "folder-16" / "pack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _unfinished(data: Path) -> None:
    for name in ("unfinished-0a.jsonl", "train-0a.pixels", "val-0a.pixels"):
        (data / "packed" / "folder-16" / name).write_text("x")


# what is done to a sound pack -> what `--yes` takes away, and what `--packs` besides
PACKS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "sound": (lambda data: None, "", ""),
    "source gone": (lambda data: shutil.rmtree(data / "pets"), "", "all"),
    "of an earlier format": (lambda data: edit_record(data, format=0), "all", ""),
    "of a later format": (lambda data: edit_record(data, format=99), "", ""),
    "of a format that is no number": (lambda data: edit_record(data, format="0"), "", ""),
    "damaged": (lambda data: edit_record(data, checksum="0" * 64), "", ""),
    "not JSON": (lambda data: (data / "packed/folder-16/pack.json").write_text("{"), "", ""),
    "and an unfinished one": (_unfinished, "unfinished", ""),
}


@pytest.mark.parametrize("what", PACKS)
def test_packs(what: str, data: Path) -> None:
    change, by_yes, by_packs = PACKS[what]
    change(data)
    (data / "packed" / "notes.txt").write_text("mine")
    for flags, expected in ((["--yes"], by_yes), (["--yes", "--packs"], by_packs)):
        before = contents(data)
        assert dispatch(["clean", str(data), *flags]) == 0
        gone = set(before) - set(contents(data))
        if expected == "all":
            assert gone == {name for name in before if name.startswith("packed/folder-16/")}
            assert not (data / "packed" / "folder-16").exists()
        else:
            names = {"unfinished-0a.jsonl", "train-0a.pixels", "val-0a.pixels"} if expected else set()
            assert gone == {f"packed/folder-16/{name}" for name in names}


def test_other_files_beside_a_pack_stay(data: Path) -> None:
    shutil.rmtree(data / "pets")
    pack = data / "packed" / "folder-16"
    (pack / "notes.txt").write_text("mine")
    (pack / "train-0b.pixels").symlink_to(pack / "notes.txt")
    assert dispatch(["clean", str(data), "--yes", "--packs"]) == 0
    assert set(contents(pack)) == {"notes.txt", "train-0b.pixels"}


def test_a_pack_that_moved_with_its_source_stays(data: Path, tmp_path: Path) -> None:
    (data / "train").mkdir()  # as data.root=TREE has its packs in TREE/packed
    shutil.rmtree(data / "train")
    for split in ("train", "val"):
        shutil.move(data / "pets" / split, data / split)
    shutil.move(data, tmp_path / "moved")
    before = contents(tmp_path / "moved")
    assert dispatch(["clean", str(tmp_path / "moved"), "--yes", "--packs"]) == 0
    assert contents(tmp_path / "moved") == before


def test_a_pack_that_is_being_made_stays(data: Path) -> None:
    shutil.rmtree(data / "pets")
    _unfinished(data)
    before = contents(data)
    with locked(data / "packed" / "folder-16"):
        assert dispatch(["clean", str(data), "--yes", "--packs"]) == 0
        assert contents(data) == before
