"""Whatever became of the files of a run or a study: a verdict or one line, never a traceback, and nothing half-made.

Each file is cut short, changed in one bit, filled with something else or taken away. What a command may not do is fail
in a way that a person cannot read, or change a folder that it only looks at.
"""

import json
import shutil
import tempfile
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.fuzzing import FUZZ, QUICK, told, tree
from helpers.studies import SPEC, written

pytestmark = pytest.mark.timeout(300 + 2 * FUZZ)

RUN_FILES = [
    *("events.jsonl", "receipts.jsonl", "config.yaml", "provenance.json", "summary.json", "DONE"),
    *("checkpoints/step_00000002.pt", "checkpoints/step_00000004.pt", "checkpoints/last"),
]
RUN_COMMANDS = [
    *(
        ["eval", "RUN"],
        ["export", "RUN", "--out", "out"],
        ["verify", "RUN", "--steps", "2"],
        ["verify", "RUN", "--span", "2:4"],
    ),
    *(["list", "runs", "runs"], ["compare", "RUN", "--against", "RUN"]),
]
AGAIN = ["train", "experiment=smoke", "steps=4ba", "tracker=events", "every.log=1ba", "every.checkpoint=2ba"]


@st.composite
def damage(draw: st.DrawFn) -> Any:
    """A function from a file's content to another, or to None: the file is gone."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "bytes", "tree", "gone"]))
    where, bit = draw(st.floats(0, 0.999)), draw(st.integers(0, 7))
    junk = draw(st.binary(max_size=12)) if kind in ("insert", "bytes") else b""
    node = draw(tree) if kind == "tree" else None

    def change(content: bytes) -> bytes | None:
        at = int(where * len(content))
        match kind:
            case "cut":
                return content[:at]
            case "flip" if content:
                return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            case "insert":
                return content[:at] + junk + content[at:]
            case "bytes":
                return junk
            case "tree":
                return json.dumps(node).encode()
            case "gone":
                return None
        return content

    return change


@pytest.fixture(scope="module")
def trained(paribus: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    done: CompletedProcess[str] = paribus(*AGAIN, cwd=folder)
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "runs").iterdir()
    return run


def damaged(original: Path, folder: Path, file: str, change: Any) -> Path:
    run = folder / "runs" / original.name
    shutil.copytree(original, run)
    path = run / file
    content = change(path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)
    return run


@settings(parent=QUICK, max_examples=FUZZ // 2)
@given(file=st.sampled_from(RUN_FILES), change=damage(), command=st.sampled_from(RUN_COMMANDS))
def test_commands_that_look_at_a_run(trained: Path, file: str, change: Any, command: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = damaged(trained, folder, file, change)
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        code, err = told([word.replace("RUN", str(run)) for word in command], folder)
        assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
        assert code in (0, 2, 4), err
        if code == 2:
            lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
            assert len(lines) == 1, err
            assert lines[0].startswith("paribus: "), err
            assert not (folder / "out").exists()


@settings(parent=QUICK, max_examples=FUZZ // 4)
@given(file=st.sampled_from(RUN_FILES[:-3] + RUN_FILES[-2:]), change=damage())
def test_a_run_that_goes_on(trained: Path, file: str, change: Any) -> None:
    """The same command again, as if the run had been stopped after its last checkpoint."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = damaged(trained, folder, file, change)
        (run / "DONE").unlink(missing_ok=True)
        code, err = told(AGAIN, folder)
        assert code in (0, 2), err
        if code == 2:
            lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
            assert len(lines) == 1, err
        else:
            assert (run / "DONE").exists()


@settings(parent=QUICK, max_examples=FUZZ // 4)
@given(
    file=st.sampled_from(["study.yaml", "plan.jsonl", "results.jsonl"]),
    change=damage(),
    key=st.sampled_from([*SPEC, "targets", "paper", "factors", "comparisons", "threads", "typo"]),
    value=st.none() | tree,
    command=st.sampled_from(["status", "plan"]),
)
def test_study_files(planned: Path, file: str, change: Any, key: str, value: Any, command: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study = folder / "study"
        shutil.copytree(planned, study)
        if value is None:
            content = change((study / file).read_bytes())
            (study / file).unlink() if content is None else (study / file).write_bytes(content)
        else:
            import yaml

            (study / "study.yaml").write_text(yaml.safe_dump({**SPEC, key: value}))
        before = sorted(folder.rglob("*"))
        code, err = told(["study", command, "study"], folder)
        assert code in (0, 2, 3), err
        if code == 2:
            assert err.startswith("paribus: "), err
            assert err.count("\n") == 1, err
            assert sorted(folder.rglob("*")) == before


@pytest.fixture(scope="module")
def planned(paribus: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    written(folder / "study", seeds=1, recipe=["experiment=smoke", "steps=4ba", "every.evaluate=4ba"])
    done: CompletedProcess[str] = paribus("study", "run", "study", "--workers", "2", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "study"
