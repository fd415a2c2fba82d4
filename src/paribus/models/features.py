"""Networks whose features tell images apart, for FID and its like (core/features.py): a classifier of one's own, or
Inception.

A Fréchet distance means nothing without the name of its features: those of another network, or of the same one trained
for longer, give other numbers. What is usually called FID takes Inception-v3 as it was converted from TensorFlow in
2015, which no release of ours brings along: its weights are the user's file, and nothing is downloaded.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.build import matches_signature, schema
from paribus.core.capabilities import embed
from paribus.core.content import Checksum, read_checked
from paribus.core.errors import ConfigError, explain_exception, explain_misfit
from paribus.core.pixels import to_inputs
from paribus.core.protocols import ModelFactory, Spec
from paribus.models.about import read_about
from paribus.models.exported import Exported, file_names

_SIDE = 299  # pixels a side, for which Inception was made


class NormalisedFeatures(nn.Module):
    """(n, c, h, w) pixels to the features that the network's last linear layer is given, or its own `embed`."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network, self._mean, self._std = network, mean, std

    def forward(self, pixels: Tensor) -> Tensor:
        return embed(self.network, to_inputs(pixels, self._mean, self._std))


@schema
class ClassifierFeatures:
    """What a trained classifier's last linear layer is given. Its classes need not be the data's.

    classifier: makes it; an export of ours (paribus.models.exported.Exported), or any network with trained weights.
    name: what reports call it; null: the title of the export's run. mean, std: a number for each channel, with which
    its inputs are normalised; of an export filled in when the recipe is composed.
    """

    classifier: Annotated[ModelFactory, matches_signature(ModelFactory)]
    name: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def describe(self) -> str:
        checksum = getattr(self.classifier, "path_sha256", None) or getattr(self.classifier, "weights_sha256", None)
        return f"{self.name or self._find_name()}{_format_checksum(checksum)}"

    def _find_name(self) -> str:
        # not filled in: with another file it would be the name of the first
        if not isinstance(self.classifier, Exported):
            return type(self.classifier).__name__
        _, description = file_names(Path(self.classifier.path))
        run = read_about(description).run
        return str(run.get("title", description.stem)) + (f", step {run['step']}" if "step" in run else "")

    def completed(self) -> ClassifierFeatures:
        """With what the export says. Raises ConfigError if other numbers are given than it was trained with."""
        if not isinstance(self.classifier, Exported):
            return self
        _, description = file_names(Path(self.classifier.path))
        if not description.exists():
            return self
        about = read_about(description)
        read = {key: tuple(float(x) for x in about.inputs[key]) for key in ("mean", "std")}
        for key, value in read.items():
            if getattr(self, key) not in (None, value):
                raise ConfigError(f"{key}: found {getattr(self, key)}, and {description} says {value}; leave it out")
        return replace(self, **read)

    def __call__(self, spec: Spec) -> nn.Module:
        """Raises ConfigError if the network takes images of another size or number of channels."""
        found, made_for = self.completed(), spec
        if isinstance(found.classifier, Exported):
            exported = found.classifier.completed()
            found = replace(found, classifier=exported)
            made_for = Spec(**exported.inputs) if exported.inputs else spec
        own, its = ((s.channels, s.height, s.width) for s in (spec, made_for))
        if own != its:
            taken, given = ("×".join(map(str, shape)) for shape in (its, own))
            raise ConfigError(
                f"classifier: it takes images of {taken} (channels, height, width), and the data's are {given}; choose "
                "a classifier that was trained on images of this size"
            )
        network = found.classifier(made_for)
        if found.mean is None or found.std is None:
            raise ConfigError(
                "mean, std: missing; what the classifier's inputs are normalised with is known of exports alone"
            )
        if not len(found.mean) == len(found.std) == spec.channels:
            raise ConfigError(f"mean, std: found {found.mean} and {found.std}; the data has {spec.channels} channels")
        return NormalisedFeatures(network, found.mean, found.std)


@schema
class InceptionFeatures:
    """The 2,048 features of Inception-v3 before its classifier, from a file of weights that you have.

    weights: the file. weights_sha256: of it, filled in when the recipe is composed. source: torch_fidelity, the
    converted network of 2015 with which papers' FID is measured (pip install paribus[inception]), whose file is
    weights-inception-2015-12-05-6726825d.pth of its release 0.2.0; or torchvision, which gives other numbers.
    """

    weights: str
    weights_sha256: Checksum = None
    source: Literal["torch_fidelity", "torchvision"] = "torch_fidelity"

    def describe(self) -> str:
        return f"Inception-v3 of {self.source}{_format_checksum(self.weights_sha256)}"

    def __call__(self, spec: Spec) -> nn.Module:
        """Raises ConfigError if the file is not there or not its weights, and for images that are not grey or RGB."""
        if spec.channels not in (1, 3):
            raise ConfigError(f"Inception takes images of 1 or 3 channels, and the data has {spec.channels}")
        path = Path(self.weights).expanduser()
        try:
            weights = _read_weights(path, self.weights_sha256)
            return _MAKERS[self.source](weights)
        except OSError as error:
            raise ConfigError(f"weights: {path}: {error.strerror}; it is never downloaded") from error
        except ImportError as error:
            raise ConfigError(f"source: {error}; pip install paribus[inception]") from error
        except RuntimeError as error:
            raise ConfigError(f"weights: {path} does not fit {self.describe()}: {explain_misfit(error)}") from error


def _read_weights(path: Path, checksum: str | None) -> Mapping[str, Tensor]:
    """A state dict of .safetensors or of torch, in which no code may be."""
    raw = read_checked(path, checksum)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            return load(raw)
        return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # of torch, pickle, zipfile or safetensors
        raise ConfigError(f"weights: {path} is no sound file of weights: {explain_exception(error)}") from error


class _FidelityInception(nn.Module):
    """torch-fidelity's network takes 8-bit RGB and resizes it as TensorFlow did."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        # it unpickles whatever its file holds: given as bytes of our own making, that is tensors alone
        file = io.BytesIO()
        torch.save(dict(weights), file)
        file.seek(0)
        given: Any = file
        self.network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=given)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network((_as_rgb(pixels) * 255).round().to(torch.uint8))[0]


class _TorchvisionInception(nn.Module):
    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        from torchvision.models import inception_v3

        has_second = any(name.startswith("AuxLogits.") for name in weights)
        self.network = inception_v3(weights=None, init_weights=False, aux_logits=has_second)
        self.network.load_state_dict(weights)

    def forward(self, pixels: Tensor) -> Tensor:
        large = F.interpolate(_as_rgb(pixels), (_SIDE, _SIDE), mode="bilinear", antialias=True)
        return embed(self.network, large * 2 - 1)  # as these weights were trained: mean and std 0.5


_MAKERS = {"torch_fidelity": _FidelityInception, "torchvision": _TorchvisionInception}


def _as_rgb(pixels: Tensor) -> Tensor:
    return pixels.expand(-1, 3, -1, -1)


def _format_checksum(checksum: str | None) -> str:
    return f" (sha256 {checksum[:12]})" if checksum else ""
