"""A trained network on its own: NAME.safetensors with the weights, NAME.json with all that is needed to use them.

The weights are an ordinary state dict, so plain torch reads them (`safetensors.torch.load_file`); `load` also builds
the network. Neither file can run code: the JSON names a paribus config class, which is checked as any config is.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from paribus.core.build import build, schema, to_config
from paribus.core.errors import ConfigError, explain_misfit
from paribus.core.labels import read_class_ids
from paribus.core.protocols import ModelFactory, Spec
from paribus.core.runfolder import write_atomically, write_json
from paribus.core.streams import stream, use_generator

FORMAT = 1


def save(
    path: Path, factory: ModelFactory, spec: Spec, weights: Mapping[str, Tensor], extra: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write path (a .safetensors) and the .json beside it; `extra` is added to the JSON. Returns both paths."""
    from safetensors.torch import save as serialize

    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    description = {"format": FORMAT, "model": to_config(factory), "inputs": vars(spec), **extra}
    write_atomically(path, serialize(plain, metadata={"format": "pt"}))
    write_json(path.with_suffix(".json"), description)
    return path, path.with_suffix(".json")


def load(path: str | Path, packages: Sequence[str] = ()) -> nn.Module:
    """The network that `paribus export` wrote, on the CPU, in evaluation mode.

    path: of the .safetensors or the .json. packages: names of further packages whose model classes may be used.
    Inputs are (n, c, h, w), normalised with the JSON's `inputs.mean` and `inputs.std`; outputs are (n, classes) logits.
    Its `class_names` are those of the outputs, `class_ids` what they are matched by (core/labels.py); () if unknown.
    Raises ConfigError if a file is missing or damaged, or if they do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as deserialize

    weights, description = (Path(path).with_suffix(suffix) for suffix in (".safetensors", ".json"))
    try:
        raw, about = weights.read_bytes(), json.loads(description.read_text())
        if about["format"] > FORMAT:
            raise ConfigError(f"{description} has format {about['format']}; this paribus reads up to {FORMAT}")
        factory = build(about["model"], "model", tuple(packages))
        spec = Spec(**{key: about["inputs"][key] for key in ("classes", "channels", "height", "width")})
        with use_generator(stream(0, "exported")):  # the initial weights are discarded
            model = factory(spec)
        model.load_state_dict(deserialize(raw))
        names = tuple(about.get("classes", ()))
        if len(names) not in (0, spec.classes):
            raise ValueError(f"it names {len(names)} classes of {spec.classes}")
        model.class_names, model.class_ids = names, read_class_ids(about) or ()
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; `paribus export RUN` writes both files") from error
    except SafetensorError as error:
        raise ConfigError(f"{weights} is damaged: {error}; export the run again") from error
    except ConfigError as error:
        raise ConfigError(f"{description}: {error}") from error
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"{description} does not describe {weights}: {explain_misfit(error)}; export the run again"
        ) from error
    return model.eval()


@schema
class Exported:
    """The network that `load` returns, as the model of a recipe, such as a teacher. path: of the .safetensors or the
    .json."""

    path: str

    def __call__(self, spec: Spec) -> nn.Module:
        path = Path(self.path).expanduser()
        model = load(path)
        inputs = json.loads(path.with_suffix(".json").read_text())["inputs"]
        if any(inputs[key] != getattr(spec, key) for key in ("classes", "channels")):
            raise ConfigError(
                f"{path}: the network knows {inputs['classes']} classes and {inputs['channels']} channels, the data "
                f"has {spec.classes} and {spec.channels}"
            )
        return model
