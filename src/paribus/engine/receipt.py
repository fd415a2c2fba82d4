"""receipts.jsonl: what a run records so that anyone can check that a replay is bit-exact.

A line at each log point and one at each checkpoint that was due (not at one that a signal requested, so that a run that
was stopped leaves the same file as one that was not):

    {"step": 20, "losses": {"train/loss": [2.30, …]}, "gradient_norm": 0.71, "chain": "…", "seal": "…"}
    {"step": 20, "checksums": {"model": "…", "optimizer": "…"}, "seal": "…"}

losses         of each step since the line before, the mean over ranks, up to and including `step`
gradient_norm  over all parameters, as the optimizer received them in that step
checksums      sha256 of all tensors of a part of the method's state: names, types, shapes and values
chain          sha256 over (chain of the step before, step, losses of the step): two runs at different cadences have
               equal chains at equal steps
seal           sha256 over (seal of the line before, this line without its seal): the file is complete and in order

Numbers are float64 in the shortest decimals that read back as the same bits. Nothing here makes the host wait in a
step: losses stay on the device until a log point, where it waits anyway.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paribus.core.capabilities import trained_parameters
from paribus.core.errors import ConfigError
from paribus.core.protocols import Method
from paribus.core.runfolder import RECEIPTS, write_atomically
from paribus.engine.distributed import World, all_sum

LOSS_PREFIX = "train/loss"  # metrics whose names begin so are losses
START = hashlib.sha256(b"paribus receipt 1").hexdigest()

ReceiptLine = dict[str, Any]


class Receipt:
    """The receipt of a run in training. state: from the checkpoint that it resumes from."""

    def __init__(self, folder: Path, world: World, state: Mapping[str, Any] | None = None) -> None:
        self._path, self._world = folder / RECEIPTS, world
        if world.is_main:
            text = read_until_checkpoint(self._path, state)
            if not self._path.exists() or self._path.read_bytes() != text:
                write_atomically(self._path, text)
        state = state or {"chain": START, "seal": START, "lines": 0, "losses": []}
        self._chain, self._seal, self._lines = state["chain"], state["seal"], state["lines"]
        self._losses: list[dict[str, float]] = [dict(step) for step in state["losses"]]  # since the last line
        self._on_device: list[Mapping[str, Tensor | float]] = []  # of the newest steps

    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """The metrics of a step, whose tensors must not be changed afterwards."""
        self._on_device.append(metrics)

    def write_losses(self, step: int, method: Method) -> None:
        """A log point: write the losses since the last one, and the norm of the current gradients."""
        self._fetch()
        if self._world.is_main:
            norm = gradient_norm(method)
            line = {"step": step, "losses": _to_columns(self._losses), "gradient_norm": _to_json_number(norm)}
            for at, losses in iterate_steps(line):
                self._chain = extend_chain(self._chain, at, losses)
            self._append({**line, "chain": self._chain})
        self._losses = []

    def write_checksums(self, step: int, state: Mapping[str, Any]) -> None:
        """A checkpoint is due: write the checksums of this state of the method."""
        if self._world.is_main:
            self._append({"step": step, "checksums": checksums(state)})

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps. The lines that it counts are synced to disk first."""
        self._fetch()
        if self._world.is_main:
            with open(self._path, "rb") as file:
                os.fsync(file.fileno())
        return {"chain": self._chain, "seal": self._seal, "lines": self._lines, "losses": self._losses}

    def _fetch(self) -> None:
        """Losses from the device to numbers, averaged over ranks."""
        found = [
            {
                name: value
                for name, value in metrics.items()
                if name.startswith(LOSS_PREFIX) and isinstance(value, Tensor)
            }
            for metrics in self._on_device
        ]
        self._on_device = []
        flat = [value for step in found for value in step.values()]
        # float64 holds a float32, float16 or bfloat16 exactly
        numbers = (all_sum(torch.stack(flat).double()) / self._world.size).tolist() if flat else []
        values = iter(numbers)
        self._losses += [{name: next(values) for name in step} for step in found]

    def _append(self, line: ReceiptLine) -> None:
        self._seal = extend_seal(self._seal, line)
        self._lines += 1
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "seal": self._seal}, allow_nan=False) + "\n")


def extend_chain(chain: str, step: int, losses: Mapping[str, float]) -> str:
    """The chain after one more step."""
    link = b"".join(name.encode() + struct.pack("<d", losses[name]) for name in sorted(losses))
    return hashlib.sha256(bytes.fromhex(chain) + struct.pack("<q", step) + link).hexdigest()


def extend_seal(seal: str, line: ReceiptLine) -> str:
    """The seal of a line that follows the line with this seal."""
    return hashlib.sha256(bytes.fromhex(seal) + json.dumps(line, sort_keys=True).encode()).hexdigest()


def gradient_norm(method: Any) -> float | None:
    """The 2-norm over all gradients that the last step left behind; None of a method that does not say what it
    trains."""
    parameters = trained_parameters(method)
    if parameters is None:
        return None
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return 0.0
    norms = torch._foreach_norm(gradients)  # pyright: ignore[reportPrivateImportUsage] — as get_total_norm, in less time
    return float(torch.linalg.vector_norm(torch.stack(norms)))


def checksums(state: Mapping[str, Any]) -> dict[str, str]:
    """The checksum of each part of a method's state that holds tensors: model, optimizer, ema."""
    parts = {str(name): dict(_iterate_tensors(part, "")) for name, part in state.items()}
    return {name: checksum(tensors) for name, tensors in parts.items() if tensors}


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values, the same for every device, layout in memory and order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read(path: Path) -> list[ReceiptLine]:
    """The lines of a receipt, up to the first that a crash truncated. Raises ConfigError if one does not follow from
    those before it."""
    lines: list[ReceiptLine] = []
    chain = seal = START
    for text in path.read_bytes().split(b"\n")[:-1]:
        line = _parse_line(text)
        if line is None:
            break
        for at, losses in iterate_steps(line):
            chain = extend_chain(chain, at, losses)
        found, seal = line.pop("seal"), extend_seal(seal, {k: v for k, v in line.items() if k != "seal"})
        if found != seal or line.get("chain", chain) != chain:
            raise ConfigError(
                f"{path} is damaged: line {len(lines) + 1} does not follow from those before it; put the file back"
            )
        lines.append(line)
    return lines


def iterate_steps(line: ReceiptLine) -> Iterator[tuple[int, dict[str, float]]]:
    """Each step of a line with its losses."""
    columns: Mapping[str, list[float | str | None]] = line.get("losses", {})
    n = max(map(len, columns.values()), default=0)
    for row, at in enumerate(range(line["step"] - n + 1, line["step"] + 1)):
        yield at, {name: float(value) for name, c in columns.items() if (value := c[row]) is not None}


def read_until_checkpoint(path: Path, state: Mapping[str, Any] | None) -> bytes:
    """The lines up to a checkpoint with this state; later ones will be written again. Raises ConfigError if they
    are not all there."""
    if not state or not state["lines"]:
        return b""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    last = _parse_line(lines[state["lines"] - 1]) if len(lines) >= state["lines"] else None
    if last is None or last["seal"] != state["seal"]:
        raise ConfigError(
            f"{path} does not hold the {state['lines']} lines up to the checkpoint; put the file back, or delete "
            f"{path.parent} to start over"
        )
    return b"".join(line + b"\n" for line in lines[: state["lines"]])


def _parse_line(text: bytes) -> ReceiptLine | None:
    """The line if it is whole and has the form of one."""
    try:
        line = json.loads(text)
        whole = isinstance(line["step"], int) and isinstance(line["seal"], str)
        list(iterate_steps(line))
        return line if whole else None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _to_columns(steps: Sequence[Mapping[str, float]]) -> dict[str, list[Any]]:
    names = sorted({name for step in steps for name in step})
    return {name: [_to_json_number(step.get(name)) for step in steps] for name in names}


def _to_json_number(value: float | None) -> float | str | None:
    """JSON has no infinity: the norm of gradients that fp16 overflowed."""
    return value if value is None or math.isfinite(value) else repr(value)


def _iterate_tensors(node: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        yield path, node
    elif isinstance(node, Mapping | list | tuple):
        pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, item in pairs:
            yield from _iterate_tensors(item, f"{path}.{key}" if path else str(key))
