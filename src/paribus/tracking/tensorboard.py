"""TensorBoard's event file in the run folder: `tensorboard --logdir runs` then shows every run by its folder's name.

A mirror of events.jsonl, written anew from it whenever a run starts or goes on, so that each step is there once. The
package `tensorboard` (pip install "paribus[tensorboard]") writes the records, without TensorFlow and without a thread
of its own: torch's SummaryWriter has one, and an error in it shows up late or never.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.events import read_events
from paribus.core.runfolder import EVENTS, find_pictures, read_config

PREFIX = "events.out.tfevents."  # by which TensorBoard finds its files
_NO_HPARAMS = ("tracker", "paths", "packages", "every", "checkpoints", "runtime")  # as in a run's id: not computed


class TensorBoardLog:
    """Appends one record for each step. The file is open only while it is written to."""

    def __init__(self, folder: Path) -> None:
        try:
            # protobuf makes these two when they are imported, where pyright does not see them
            from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
            from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
            from tensorboard.plugins.hparams.summary_v2 import hparams_pb
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise ConfigError(f"{error}; pip install tensorboard") from error
        self._event, self._summary, self._writer = Event, Summary, RecordWriter
        for earlier in folder.glob(f"{PREFIX}*"):
            earlier.unlink()
        self._path = folder / f"{PREFIX}{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        known = [self._build_event(event["step"], event["values"]) for event in read_events(folder / EVENTS)]
        hparams = hparams_pb(dict(_iterate_hparams(read_config(folder))))
        self._write(Event(file_version="brain.Event:2"), Event(summary=hparams), *known)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._write(self._build_event(step, values))

    def close(self, summary: Mapping[str, Any]) -> None: ...

    def _build_event(self, step: int, values: Mapping[str, float]) -> Any:
        measured = [self._summary.Value(tag=key, simple_value=value) for key, value in values.items()]
        for name, path in find_pictures(self._path.parent, step).items():
            png = path.read_bytes()
            width, height = struct.unpack(">II", png[16:24])  # of a PNG's first chunk
            picture = self._summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
            measured.append(self._summary.Value(tag=name, image=picture))
        return self._event(step=step, summary=self._summary(value=measured))

    def _write(self, *events: Any) -> None:
        with open(self._path, "ab") as file:
            writer = self._writer(file)
            for event in events:
                event.wall_time = time.time()
                writer.write(event.SerializeToString())


def _iterate_hparams(node: Any, path: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Dotted key and value of what is computed, for TensorBoard's table of hyperparameters. Lists are joined."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if path or key not in _NO_HPARAMS:
                yield from _iterate_hparams(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, bool | int | float | str):
        yield path, node
    elif isinstance(node, list) and node:
        yield path, ",".join(map(str, node))


@schema
class TensorBoard:
    """TensorBoard's event file in the run folder, with the recipe as hyperparameters."""

    def __call__(self, folder: Path, start: int, total: int) -> TensorBoardLog:
        return TensorBoardLog(folder)
