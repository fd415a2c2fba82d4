"""A trained network on its own: NAME.safetensors with the weights, NAME.json with all that is needed to use them.

The weights are an ordinary state dict, so plain torch reads them (`safetensors.torch.load_file`); `load` also builds
the network. Neither file can run code: the JSON names a paribus config class, which is checked as any config is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from paribus.core.build import build, matches_signature, schema, to_config
from paribus.core.content import Checksum, read_checked
from paribus.core.errors import ConfigError, explain_misfit
from paribus.core.labels import read_class_ids
from paribus.core.protocols import ModelFactory, Spec, StartsFromFile
from paribus.core.runfolder import write_atomically, write_json
from paribus.core.streams import stream, use_generator
from paribus.models.about import read_about

FORMAT = 1


def save(
    path: Path, factory: ModelFactory, spec: Spec, weights: Mapping[str, Tensor], extra: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write path (a .safetensors) and the .json beside it; `extra` is added to the JSON. Returns both paths.

    A network that started from a file is described without it.
    """
    from safetensors.torch import save as serialize

    if isinstance(factory, StartsFromFile):
        factory = factory.without_file()
    if isinstance(factory, SizedNetwork) and (factory.height, factory.width) == (spec.height, spec.width):
        factory = factory.network

    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    description = {"format": FORMAT, "model": to_config(factory), "inputs": vars(spec), **extra}
    write_atomically(path, serialize(plain, metadata={"format": "pt"}))
    write_json(path.with_suffix(".json"), description)
    return path, path.with_suffix(".json")


def load(path: str | Path, packages: Sequence[str] = (), dtype: torch.dtype | None = None) -> nn.Module:
    """The network that `paribus export` wrote, on the CPU, in evaluation mode.

    path: of the .safetensors or the .json. packages: names of further packages whose model classes may be used. dtype:
    float64 keeps the weights of a run with update.precision=fp64 as they are.
    Inputs are (n, c, h, w), normalised with the JSON's `inputs.mean` and `inputs.std`; outputs are (n, classes) logits.
    Its `class_names` are those of the outputs, `class_ids` what they are matched by (core/labels.py); () if unknown.
    Its `about` says how images become inputs, and of which run, recipe, techniques and metrics it is (about.py).
    Raises ConfigError if a file is missing or damaged, or if they do not belong together.
    """
    weights, description = file_names(Path(path))
    factory, spec = _read_description(description, tuple(packages))
    network = _read_network(weights, description, factory, spec, None, dtype)
    network.about = read_about(description)  # pyright: ignore[reportArgumentType]
    return network


def file_names(path: Path) -> tuple[Path, Path]:
    """Of the weights and of the description, whichever of them is given. Raises ConfigError for a file of another
    kind."""
    path = path.expanduser()
    if path.suffix not in (".safetensors", ".json") and path.is_file():
        raise ConfigError(f"{path} is no export; give the .safetensors or the .json that `paribus export RUN` writes")
    return path.with_suffix(".safetensors"), path.with_suffix(".json")


def _read_description(description: Path, packages: tuple[str, ...] = ()) -> tuple[ModelFactory, Spec]:
    """What makes the network, and the inputs it was made for. Raises ConfigError."""
    try:
        about = json.loads(description.read_text())
        if about["format"] > FORMAT:
            raise ConfigError(f"{description} has format {about['format']}; this paribus reads up to {FORMAT}")
        spec = Spec(**{key: about["inputs"][key] for key in ("classes", "channels", "height", "width")})
        return build(about["model"], "model", packages), spec
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; `paribus export RUN` writes both files") from error
    except ConfigError as error:
        raise ConfigError(f"{description}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        weights = description.with_suffix(".safetensors")
        raise ConfigError(f"{description} does not describe {weights}: {error}; export the run again") from error


def _read_network(
    weights: Path,
    description: Path,
    factory: ModelFactory,
    spec: Spec,
    checksum: str | None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    from safetensors import SafetensorError
    from safetensors.torch import load as deserialize

    try:
        raw = read_checked(weights, checksum)
        with use_generator(stream(0, "exported")):  # the initial weights are discarded
            model = factory(spec)
            model = model if dtype is None else model.to(dtype)
        model.load_state_dict(deserialize(raw))
        model.class_names, model.class_ids = _read_classes(description, spec)  # pyright: ignore[reportArgumentType]
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; `paribus export RUN` writes both files") from error
    except SafetensorError as error:
        raise ConfigError(f"{weights} is damaged: {error}; export the run again") from error
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"{description} does not describe {weights}: {explain_misfit(error)}; export the run again"
        ) from error
    return model.eval()


def _read_classes(description: Path, spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and ids of the classes; () where they are not known."""
    about = json.loads(description.read_text()) if description.exists() else {}
    names = tuple(about.get("classes", ()))
    if len(names) not in (0, spec.classes):
        raise ValueError(f"it names {len(names)} classes of {spec.classes}")
    return names, read_class_ids(about) or ()


@schema
class SizedNetwork:
    """A network made for images of this size, whatever the data's.

    network: what makes it. height, width: of the images, in pixels.
    """

    network: Annotated[ModelFactory, matches_signature(ModelFactory)]
    height: int
    width: int

    def __call__(self, spec: Spec) -> nn.Module:
        return self.network(replace(spec, height=self.height, width=self.width))


@schema
class Exported:
    """The network that `load` returns, as the model of a recipe or as a teacher. path: of the .safetensors or the
    .json. path_sha256: of the .safetensors. network, inputs: what the .json says. The last three are filled in when
    the recipe is composed."""

    path: str
    path_sha256: Checksum = None
    network: Annotated[ModelFactory | None, matches_signature(ModelFactory)] = None
    inputs: dict[str, int] | None = None

    def __call__(self, spec: Spec) -> nn.Module:
        weights, description = file_names(Path(self.path))
        network, made_for = self._describe(description)
        if (made_for.classes, made_for.channels) != (spec.classes, spec.channels):
            raise ConfigError(
                f"{self.path}: the network knows {made_for.classes} classes and {made_for.channels} channels, the data "
                f"has {spec.classes} and {spec.channels}"
            )
        return _read_network(weights, description, network, made_for, self.path_sha256)

    def find_path(self) -> Path:
        return file_names(Path(self.path))[0]

    def completed(self) -> "Exported":
        """With the network and its inputs. Raises ConfigError if they are given and are not the file's."""
        _, description = file_names(Path(self.path))
        if not description.exists():
            return self
        network, spec = _read_description(description)
        if isinstance(network, StartsFromFile):
            network = network.without_file()
        read = replace(self, network=network, inputs=vars(spec))
        for key in ("network", "inputs"):
            if getattr(self, key) not in (None, getattr(read, key)):
                raise ConfigError(f"{key}: found other than what {description} says; leave it out")
        return read

    def without_file(self) -> ModelFactory:
        """Of a recipe without a description, from before there were any, the file is still needed."""
        if self.network is None or self.inputs is None:
            return self
        return SizedNetwork(network=self.network, height=self.inputs["height"], width=self.inputs["width"])

    def _describe(self, description: Path) -> tuple[ModelFactory, Spec]:
        if self.network is None or self.inputs is None:
            return _read_description(description)
        return self.network, Spec(**self.inputs)
