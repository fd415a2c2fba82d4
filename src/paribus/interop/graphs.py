"""A trained network for programs that have no paribus: a graph of torch.export (.pt2), which plain torch runs, and
ONNX, for ONNX Runtime, TensorRT and the like.

Both take a batch of any size, (n, c, h, w) normalised inputs, and give (n, classes) logits. Both carry what the
export's .json says (class names, preprocessing, recipe).
"""

import importlib.util
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paribus.core.errors import ConfigError, explain_exception
from paribus.core.runfolder import write_atomically

DESCRIPTION = "paribus.json"  # the name of the export's .json in both
_INPUT, _OUTPUT = "inputs", "logits"


def write_pt2(network: nn.Module, path: Path) -> Path:
    """network: of `paribus.load`. Raises ConfigError if torch cannot trace it, or the file cannot be written.

    Read back with `torch.export.load(path).module()`.
    """
    with _explain("--pt2", path):
        program = torch.export.export(network, (_example(network),), dynamic_shapes=_any_batch())
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={DESCRIPTION: _describe(network)})
        write_atomically(path, buffer.getvalue())
    return path


def write_onnx(network: nn.Module, path: Path) -> Path:
    """network: of `paribus.load`. Needs the packages onnx and onnxscript. Raises ConfigError as `write_pt2` does."""
    check_onnx()
    with _explain("--onnx", path):
        program = torch.onnx.export(
            network,
            (_example(network),),
            dynamo=True,
            dynamic_shapes=_any_batch(),
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props[DESCRIPTION] = _describe(network)
        write_atomically(path, program.model_proto.SerializeToString())
    return path


def check_onnx() -> None:
    """Raises ConfigError that says what to install."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--onnx: needs {' and '.join(missing)}, not installed here; pip install onnx onnxscript (or paribus[onnx])"
        )


def _example(network: Any) -> torch.Tensor:
    """Two images: torch would take a batch of one for the only size."""
    inputs = network.about.inputs
    parameter = next(network.parameters(), torch.empty(0))
    return torch.zeros(2, inputs["channels"], inputs["height"], inputs["width"], dtype=parameter.dtype)


def _any_batch() -> Any:
    return ({0: torch.export.Dim("n", min=1)},)


def _describe(network: Any) -> str:
    return json.dumps(asdict(network.about), sort_keys=True)


@contextmanager
def _explain(flag: str, path: Path) -> Iterator[None]:
    """What torch says on the way is for developers of torch."""
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise ConfigError(f"{flag}: {path} cannot be written: {error.strerror}") from error
    except Exception as error:  # torch raises dozens of kinds for code that cannot be traced
        raise ConfigError(f"{flag}: torch cannot export this network: {explain_exception(error)}") from error
