"""A trained network for programs that have no paribus: a graph of torch.export (.pt2), which plain torch runs, and
ONNX, for ONNX Runtime, TensorRT and the like.

Both take a batch of any size, (n, c, h, w) normalised inputs, and give (n, classes) logits; those of a generator take
(n, latent) standard normal noise and, if it knows classes, (n, classes) weights of them, and give (n, c, h, w) images,
-1 to 1. Both carry what the export's .json says (class names, preprocessing, recipe).
"""

import importlib.util
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from paribus.core.errors import ConfigError, explain_exception
from paribus.core.generation import Generates, TranslatesToDomains
from paribus.core.runfolder import write_atomically

DESCRIPTION = "paribus.json"  # the name of the export's .json in both


def write_pt2(network: nn.Module, path: Path) -> Path:
    """network: of `paribus.load`. Raises ConfigError if torch cannot trace it, or the file cannot be written.

    Read back with `torch.export.load(path).module()`.
    """
    with _explain("--pt2", path):
        traced, inputs = _to_trace(network)
        program = torch.export.export(traced, tuple(inputs.values()), dynamic_shapes=_any_batch(inputs))
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={DESCRIPTION: _describe(network)})
        write_atomically(path, buffer.getvalue())
    return path


def write_onnx(network: nn.Module, path: Path) -> Path:
    """network: of `paribus.load`. Needs the packages onnx and onnxscript. Raises ConfigError as `write_pt2` does."""
    check_onnx()
    with _explain("--onnx", path):
        traced, inputs = _to_trace(network)
        program = torch.onnx.export(
            traced,
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=_any_batch(inputs),
            input_names=list(inputs),
            output_names=["logits" if traced is network else "images"],
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


class _ImagesAlone(nn.Module):
    """A generator as one that gives its images without the maps behind them."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, noise: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        return self.generator(noise, classes).images


def _to_trace(network: Any) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """What is traced, and inputs of it by name, of two images: torch would take a batch of one for the only size."""
    dtype = next(network.parameters(), torch.empty(0)).dtype
    if isinstance(network, Generates):
        inputs = {"noise": torch.zeros(2, network.latent, dtype=dtype)}
        classes = {"classes": torch.zeros(2, network.classes, dtype=dtype)} if network.classes else {}
        return _ImagesAlone(cast(Any, network)), {**inputs, **classes}
    if isinstance(network, TranslatesToDomains):
        raise ConfigError("a network that translates takes images and domains, and no graph of it is written")
    size = network.about.inputs
    return network, {"inputs": torch.zeros(2, size["channels"], size["height"], size["width"], dtype=dtype)}


def _any_batch(inputs: dict[str, torch.Tensor]) -> Any:
    n = torch.export.Dim("n", min=1)
    return tuple({0: n} for _ in inputs)


def _describe(network: Any) -> str:
    return json.dumps(asdict(network.about), sort_keys=True)


@contextmanager
def _explain(flag: str, path: Path) -> Iterator[None]:
    """What torch says on the way is for developers of torch."""
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except ConfigError as error:
        raise ConfigError(f"{flag}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{flag}: {path} cannot be written: {error.strerror}") from error
    except Exception as error:  # torch raises dozens of kinds for code that cannot be traced
        raise ConfigError(f"{flag}: torch cannot export this network: {explain_exception(error)}") from error
