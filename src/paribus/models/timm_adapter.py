"""Any model of timm by its name. timm takes seconds to import, so it is imported only when a config names these
classes."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from paribus.core.build import did_you_mean, schema
from paribus.core.content import Checksum, check_checksum, hash_file
from paribus.core.errors import ConfigError, explain_exception
from paribus.core.protocols import ModelFactory, Spec


@schema
class Timm:
    """name: as `timm.create_model` takes it; nothing is downloaded. args: further arguments of that model.

    small_images: for ResNets, a 3×3 stem of stride 1 and no max-pool, the usual form for 32×32 images. weights: a file
    of initial weights, as timm's `checkpoint_path`. weights_sha256: of that file, filled in when the recipe is
    composed.
    """

    name: str
    small_images: bool = False
    args: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    weights_sha256: Checksum = None

    def __call__(self, spec: Spec) -> nn.Module:
        import timm

        if not timm.is_model(self.name):
            raise ConfigError(
                f"model.name: timm has no model {self.name!r}{did_you_mean(self.name, timm.list_models())}"
            )
        args = self.args
        if self.weights is not None:
            args = {**args, "checkpoint_path": str(_checked(self.weights, self.weights_sha256))}
        try:
            model = timm.create_model(
                self.name, pretrained=False, num_classes=spec.classes, in_chans=spec.channels, **args
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(
                f"model.args: timm's {self.name} refuses {self.args}: {explain_exception(error)}"
            ) from error
        return _with_small_stem(model, self.name, spec) if self.small_images else model

    def completed(self) -> "Timm":
        """With a file that was named in timm's own way, `args.checkpoint_path`, as `weights`."""
        if not self.args.get("checkpoint_path"):
            return self
        if self.weights is not None:
            raise ConfigError("model.args.checkpoint_path: model.weights names a file already; leave one of them out")
        args = {key: value for key, value in self.args.items() if key != "checkpoint_path"}
        return replace(self, args=args, weights=str(self.args["checkpoint_path"]))

    def without_file(self) -> ModelFactory:
        return replace(self, weights=None, weights_sha256=None)


@schema
class TimmPretrained:
    """A network of timm with the weights timm publishes for it, such as a teacher. name: with the weights' tag, e.g.
    regnety_160.deit_in1k. timm fetches them on first use and keeps them in the cache of the Hugging Face hub.
    weights_sha256: of the fetched file, filled in when the recipe is composed."""

    name: str
    weights_sha256: Checksum = None

    def __call__(self, spec: Spec) -> nn.Module:
        import timm

        self._check_name()
        config = timm.get_pretrained_cfg(self.name)
        if config is None or (spec.classes, spec.channels) != (config.num_classes, config.input_size[0]):
            raise ConfigError(
                f"TimmPretrained.name: {self.name} knows {getattr(config, 'num_classes', '?')} classes, the data has "
                f"{spec.classes} and {spec.channels} channels; timm would give it a new, untrained classifier"
            )
        # the very file that was hashed: the hub may have another by now
        more: dict[str, Any] = {}
        if self.weights_sha256 is not None:
            more = {"pretrained_cfg_overlay": {"file": str(_checked(self.find_weights(), self.weights_sha256))}}
        try:
            return timm.create_model(self.name, pretrained=True, **more)
        except Exception as error:  # whatever it raises for an unreachable hub or a full disk
            raise self._explain(error) from error

    def find_weights(self) -> Path:
        """The file in the cache that timm loads, fetched if it is not there yet. Raises ConfigError."""
        self._check_name()
        try:
            return _fetch_weights(self.name)
        except Exception as error:  # as above
            raise self._explain(error) from error

    def without_file(self) -> ModelFactory:
        return Timm(name=self.name)

    def _check_name(self) -> None:
        import timm

        known = timm.list_pretrained()
        if self.name not in known:
            raise ConfigError(f"TimmPretrained.name: timm has no weights {self.name!r}{did_you_mean(self.name, known)}")

    def _explain(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"TimmPretrained.name: the weights of {self.name} could not be loaded: {explain_exception(error)}; "
            "fetch them where there is a network and copy the hub's cache (HF_HOME)"
        )


def _fetch_weights(name: str) -> Path:
    """Where timm's `load_pretrained` takes these weights from: its hub's safetensors, the older .bin, or a URL. What is
    in the cache is taken without asking the hub."""
    import timm
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from timm.models._hub import download_cached_file, hf_split

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        return Path(download_cached_file((config and config.url) or ""))
    repository, revision = hf_split(config.hf_hub_id)
    names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    for file in names:
        with suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(repository, file, revision=revision, local_files_only=True))
    for file in names[:-1]:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError:  # the hub cannot be reached
            raise
        except EntryNotFoundError:
            pass
    return Path(hf_hub_download(repository, names[-1], revision=revision))


def _checked(path: str | Path, checksum: str | None) -> Path:
    """The file that is there. Raises ConfigError if it is not, or is another than the checksum's."""
    path = Path(path).expanduser()
    try:
        check_checksum(path, hash_file(path), checksum)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it should be a file of weights") from error
    return path


def _with_small_stem(model: nn.Module, name: str, spec: Spec) -> nn.Module:
    stem = getattr(model, "conv1", None)
    if not isinstance(stem, nn.Conv2d) or not hasattr(model, "maxpool"):
        raise ConfigError(f"model.small_images: {name} has no ResNet stem to replace; leave it false")
    conv = nn.Conv2d(spec.channels, stem.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    model.conv1, model.maxpool = conv, nn.Identity()
    return model
