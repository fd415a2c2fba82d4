"""The files of a run folder: one state, and damage is told."""

from pathlib import Path

import pytest

from paribus.core.errors import ConfigError
from paribus.core.runfolder import mark, read_json, state, write_atomically


def test_states_are_exclusive_and_json_damage_is_told(tmp_path: Path) -> None:
    assert state(tmp_path) is None
    for name in ("PREEMPTED", "FAILED", "DONE"):
        mark(tmp_path, name)
        assert [p.name for p in tmp_path.iterdir()] == [name]
    mark(tmp_path, None)
    assert state(tmp_path) is None
    write_atomically(tmp_path / "summary.json", "{")
    with pytest.raises(ConfigError, match=r"summary\.json is damaged"):
        read_json(tmp_path / "summary.json")
