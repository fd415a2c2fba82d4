"""The record: rewound to where a run goes on, read up to any damage."""

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.tracking.events import Events, read_events


def test_events_are_rewound_and_torn_lines_dropped(tmp_path: Path) -> None:
    log = Events()(tmp_path, 0, 40)
    for step in (10, 20, 30):
        log.log(step, {"train/loss": step / 7})
    log.close({})
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(b'{"step": 40, "val')
    assert [e["step"] for e in read_events(path)] == [10, 20, 30]
    again = Events()(tmp_path, 20, 40)
    again.log(30, {"train/loss": 30 / 7})
    again.close({})
    assert path.read_bytes() == whole
    assert json.loads(path.read_text().splitlines()[2])["values"]["train/loss"] == 30 / 7


@given(junk=st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_damaged_record_is_read_up_to_the_damage(junk: bytes, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    path.write_bytes(b'{"step": 1, "values": {}}\n' + junk)
    assert read_events(path)[0] == {"step": 1, "values": {}}
