"""Any model of timm by its name. timm takes seconds to import, so it is imported only when a config names this
class."""

from typing import Any

from pydantic import Field
from torch import nn

from paribus.core.build import near, schema
from paribus.core.errors import ConfigError
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
            raise ConfigError(f"model.name: timm has no model {self.name!r}{near(self.name, timm.list_models())}")
        try:
            model = timm.create_model(
                self.name, pretrained=False, num_classes=spec.classes, in_chans=spec.channels, **self.args
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"model.args: timm's {self.name} refuses {self.args}: {error}") from error
        return _with_small_stem(model, self.name, spec) if self.small_images else model


def _with_small_stem(model: nn.Module, name: str, spec: Spec) -> nn.Module:
    stem = getattr(model, "conv1", None)
    if not isinstance(stem, nn.Conv2d) or not hasattr(model, "maxpool"):
        raise ConfigError(f"model.small_images: {name} has no ResNet stem to replace; leave it false")
    conv = nn.Conv2d(spec.channels, stem.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    model.conv1, model.maxpool = conv, nn.Identity()
    return model
