"""Any model of timm by its name. timm takes seconds to import, so it is imported only when a config names these
classes."""

from typing import Any

from pydantic import Field
from torch import nn

from paribus.core.build import did_you_mean, schema
from paribus.core.errors import ConfigError, explain_exception
from paribus.core.protocols import Spec


@schema
class Timm:
    """name: as `timm.create_model` takes it; never pretrained. args: further arguments of that model.

    small_images: for ResNets, a 3×3 stem of stride 1 and no max-pool, the usual form for 32×32 images.
    """

    name: str
    small_images: bool = False
    args: dict[str, Any] = Field(default_factory=dict)

    def __call__(self, spec: Spec) -> nn.Module:
        import timm

        if not timm.is_model(self.name):
            raise ConfigError(
                f"model.name: timm has no model {self.name!r}{did_you_mean(self.name, timm.list_models())}"
            )
        try:
            model = timm.create_model(
                self.name, pretrained=False, num_classes=spec.classes, in_chans=spec.channels, **self.args
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(
                f"model.args: timm's {self.name} refuses {self.args}: {explain_exception(error)}"
            ) from error
        return _with_small_stem(model, self.name, spec) if self.small_images else model


@schema
class TimmPretrained:
    """A network of timm with the weights timm publishes for it, such as a teacher. name: with the weights' tag, e.g.
    regnety_160.deit_in1k. timm fetches them on first use and keeps them in the cache of the Hugging Face hub."""

    name: str

    def __call__(self, spec: Spec) -> nn.Module:
        import timm

        known = timm.list_pretrained()
        if self.name not in known:
            raise ConfigError(f"TimmPretrained.name: timm has no weights {self.name!r}{did_you_mean(self.name, known)}")
        config = timm.get_pretrained_cfg(self.name)
        if config is None or (spec.classes, spec.channels) != (config.num_classes, config.input_size[0]):
            raise ConfigError(
                f"TimmPretrained.name: {self.name} knows {getattr(config, 'num_classes', '?')} classes, the data has "
                f"{spec.classes} and {spec.channels} channels; timm would give it a new, untrained classifier"
            )
        try:
            return timm.create_model(self.name, pretrained=True)
        except Exception as error:  # whatever it raises for an unreachable hub or a full disk
            raise ConfigError(
                f"TimmPretrained.name: the weights of {self.name} could not be loaded: {explain_exception(error)}; "
                "fetch them where there is a network and copy the hub's cache (HF_HOME)"
            ) from error


def _with_small_stem(model: nn.Module, name: str, spec: Spec) -> nn.Module:
    stem = getattr(model, "conv1", None)
    if not isinstance(stem, nn.Conv2d) or not hasattr(model, "maxpool"):
        raise ConfigError(f"model.small_images: {name} has no ResNet stem to replace; leave it false")
    conv = nn.Conv2d(spec.channels, stem.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    model.conv1, model.maxpool = conv, nn.Identity()
    return model
