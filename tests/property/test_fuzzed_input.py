"""Whatever stands on the command line, in a config file or in a run folder: one line and exit 2, or it trains.

No traceback, no half-made folder. The loop itself is replaced, so that an input that is right costs nothing. Sizes stay
small: a config may ask for more memory than there is, and that is not what is tested here.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.fuzzing import FUZZ, KEYS, QUICK, override, told, tree
from paribus.runs import train


class Reached(Exception):
    """Training would have begun."""


@pytest.fixture(scope="module", autouse=True)
def _no_training() -> Iterator[None]:
    def reached(run: Any, *_: object) -> None:
        raise Reached

    patch = pytest.MonkeyPatch()
    patch.setattr(train, "train_loop", lambda *_: "DONE")
    patch.delenv("PARIBUS_DEBUG", raising=False)
    yield
    patch.undo()


def check(arguments: list[str], folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    code, err = told(arguments, folder)
    if code == 0:
        shutil.rmtree(folder / "runs", ignore_errors=True)
        return
    assert code == 2, err
    assert err.startswith("paribus: "), err
    assert err.count("\n") == 1, err
    assert sorted(folder.rglob("*")) == before


pytestmark = pytest.mark.timeout(300 + FUZZ)


@QUICK
@given(overrides=st.lists(override, min_size=1, max_size=3))
def test_overrides(overrides: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(["train", "experiment=smoke", "tracker=events", *(o.replace("\0", "") for o in overrides)], Path(folder))


@QUICK
@given(content=st.one_of(tree.map(yaml.safe_dump), st.text(max_size=30), st.binary(max_size=20)), head=st.booleans())
def test_config_files(content: str | bytes, head: bool) -> None:
    raw = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    with tempfile.TemporaryDirectory() as folder:
        mine = Path(folder) / "lab" / "experiment" / "mine.yaml"
        mine.parent.mkdir(parents=True)
        mine.write_bytes((b"# @package _global_\n" if head else b"") + raw)
        check(["train", "--config-dir", "lab", "experiment=mine", "tracker=events", "data=synthetic"], Path(folder))


@pytest.fixture(scope="module")
def trained(paribus: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert paribus("train", "experiment=smoke", "steps=3ba", "tracker=events", cwd=folder).returncode == 0
    (run,) = (folder / "runs").iterdir()
    return run


def replaced(node: Any, path: list[str], value: Any) -> Any:
    """The tree with this value put where the path leads, as far as it leads anywhere."""
    if not path or not isinstance(node, dict):
        return value
    return {**node, path[0]: replaced(node.get(path[0]), path[1:], value)}


@settings(parent=QUICK, max_examples=FUZZ // 2)
@given(
    where=st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), value=tree, command=st.sampled_from(["eval", "export"])
)
def test_the_config_of_a_run_folder(trained: Path, where: str, value: Any, command: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(trained, run)
        config = replaced(yaml.safe_load((run / "config.yaml").read_text()), where.split("."), value)
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        code, err = told([command, "run"], Path(folder))
        written = {p for p in run.rglob("*") if p.is_file()} - set(before)
        assert all(p.read_bytes() == content for p, content in before.items())
        if code == 0:
            assert {p.name for p in written} <= {"model.json", "model.safetensors"}
        else:
            assert (code, err.count("\n"), written) == (2, 1, set()), err
