"""Files of weights that a run can start from (`init_from`): a state dict of torch, timm or torchvision, safetensors, an
export, the checkpoint of a run.

No file can run code: torch's are read with `weights_only`, which takes tensors and plain data. A file is known by the
checksum of its bytes. A run's checkpoint is known by its tensors, since its bytes hold clocks: the same run trained
again, bit for bit, is the same start.
"""

import argparse
import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from paribus.core.content import check_checksum, hash_file, read_checked
from paribus.core.errors import ConfigError, explain_exception
from paribus.core.labels import read_class_ids
from paribus.core.runfolder import CHECKPOINTS, CONFIG, newest_checkpoint_step
from paribus.engine import checkpoint, receipt
from paribus.engine.checkpoint import Checkpoint

# Where training programs put a state dict, the first found counts: an average of the weights before the latest ones, as
# `timm.models.load_checkpoint` chooses. `method` is of our own checkpoints.
_PARTS = (
    *("method", "state_dict_ema", "model_ema", "ema_state_dict", "ema"),
    *("state_dict", "model_state_dict", "model", "module", "net", "network", "weights"),
)
_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")  # as the Hugging Face hub names them
_ADVICE = "init_from takes a state dict (torch.save(net.state_dict(), FILE), or a .safetensors), a run or an export"


@dataclass(frozen=True)
class Weights:
    """tensors: by name, on the CPU. where: the part of the file they were in, or the step of a run; "" for a plain
    state dict. class_ids: of the classes they were trained on (core/labels.py); () unknown."""

    tensors: dict[str, Tensor]
    where: str = ""
    class_ids: tuple[str, ...] = ()


def find_weights(text: str) -> Path:
    """The file that `init_from` means: of a run folder the newest checkpoint, of an export the .safetensors. A path
    where nothing is comes back as it is. Raises ConfigError for a folder without weights."""
    path = Path(text).expanduser()
    if path.is_dir():
        if (path / CONFIG).is_file():
            if (step := newest_checkpoint_step(path)) is None:
                raise ConfigError(f"{path} has no checkpoint yet; train it first")
            return path / CHECKPOINTS / f"step_{step:08d}.pt"
        if (file := next((path / name for name in _IN_FOLDERS if (path / name).is_file()), None)) is None:
            names = " or ".join(_IN_FOLDERS)
            raise ConfigError(f"{path} is neither a run folder ({CONFIG}) nor one with {names}; name a file")
        return file
    return path.with_suffix(".safetensors") if path.suffix == ".json" else path


def find_run(path: Path) -> Path | None:
    """The run folder that a file is a checkpoint of; None for any other file."""
    folder = path.parent.parent
    return folder if path.parent.name == CHECKPOINTS and (folder / CONFIG).is_file() else None


def hash_weights(path: Path) -> str:
    """The checksum by which a file that `find_weights` returned is known. Raises OSError, and ConfigError for a damaged
    checkpoint."""
    if find_run(path) is None or not path.exists():
        return hash_file(path)
    return hash_checkpoint(checkpoint.load(path))


def hash_checkpoint(found: Checkpoint) -> str:
    """sha256 of the recipe, the step and all tensors of a checkpoint."""
    text = json.dumps([found.recipe, found.step, receipt.checksums(found.method)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_weights(path: Path, checksum: str | None) -> Weights:
    """The weights in a file that `find_weights` returned; of a run those that it evaluates with, the average where it
    has one. Raises ConfigError if the file is not there, is another than the checksum's, or holds no weights."""
    if find_run(path) is not None and path.exists():
        found = checkpoint.load(path)
        check_checksum(path, hash_checkpoint(found), checksum)
        part, tensors = find_state_dict(found.method) or ("", {})
        if not tensors:
            raise ConfigError(f"init_from: {path}: the run's method keeps no single network (`model`)")
        return Weights(tensors, f"{'average at ' * (part == 'ema')}step {found.step:,}", found.class_ids or ())
    try:
        raw = read_checked(path, checksum)
    except OSError as error:
        raise ConfigError(f"init_from: {path}: {error.strerror}") from error
    content = _parse(path, raw)
    found_part = find_state_dict(content)
    if found_part is None:
        keys = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else ""
        held = f"the keys {keys}" if keys else f"a {type(content).__name__}"
        raise ConfigError(f"init_from: {path} holds no state dict, but {held}; {_ADVICE}")
    return Weights(found_part[1], found_part[0], _read_exported_classes(path))


def find_state_dict(content: Any, part: str = "") -> tuple[str, dict[str, Tensor]] | None:
    """The name of the part that is a state dict, and its tensors; None where there is none.

    >>> find_state_dict({"epoch": 3, "state_dict": {"fc.bias": torch.zeros(2)}})
    ('state_dict', {'fc.bias': tensor([0., 0.])})
    """
    if not isinstance(content, Mapping):
        return None
    known = cast(Mapping[Any, Any], content)
    for name in _PARTS:
        if (inner := find_state_dict(known.get(name), name)) is not None:
            return inner
    tensors = {str(name): value for name, value in known.items() if isinstance(value, Tensor)}
    return (part, tensors) if tensors else None


def _parse(path: Path, raw: bytes) -> Any:
    """What a file holds. It is known by its first bytes, since names end as people like (.pth, .ckpt, .bin)."""
    if raw[8:9] == b"{":  # after the length of its header
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(raw)
        except SafetensorError as error:
            raise ConfigError(f"init_from: {path} is no sound .safetensors file: {error}") from error
    try:
        # timm's and torchvision's training programs save their arguments, a Namespace of plain data, beside the weights
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a foreign or broken file makes torch, zip or pickle raise
        if (needs := re.search(r"nsupported (?:global: GLOBAL|GLOBAL|class) (\S+)", str(error))) is not None:
            raise ConfigError(
                f"init_from: {path} holds a {needs[1].rstrip('.')}, which could run code and is not read; {_ADVICE}"
            ) from error
        is_torch = raw[:2] in (b"PK", b"\x80\x02")
        why = f"cannot be read: {explain_exception(error)}" if is_torch else "is no file of weights"
        raise ConfigError(f"init_from: {path} {why}; {_ADVICE}") from error


def _read_exported_classes(path: Path) -> tuple[str, ...]:
    """Ids of the classes of an export, by the .json beside it; () where there is none, or none in it."""
    try:
        return read_class_ids(json.loads(path.with_suffix(".json").read_text())) or ()
    except (OSError, ValueError, TypeError, AttributeError):  # other weights, with another file beside them or none
        return ()
