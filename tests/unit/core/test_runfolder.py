"""The files of a run folder: one state, and damage is told."""

from pathlib import Path

import pytest

from paribus.core.errors import ConfigError
from paribus.core.runfolder import read_json, read_state, write_atomically, write_state


def test_states_are_exclusive_and_json_damage_is_told(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    for name in ("PREEMPTED", "FAILED", "DONE"):
        write_state(tmp_path, name)
        assert [p.name for p in tmp_path.iterdir()] == [name]
    write_state(tmp_path, None)
    assert read_state(tmp_path) is None
    write_atomically(tmp_path / "summary.json", "{")
    with pytest.raises(ConfigError, match=r"summary\.json is damaged"):
        read_json(tmp_path / "summary.json")
