"""What methods of generators ask of the images that a discriminator is shown as real."""

from paribus.core.errors import ConfigError
from paribus.core.protocols import Slots


def refuse_transforms(slots: Slots, method: str) -> None:
    """A transform would change the real images and not the generated ones, and the discriminator would tell them apart
    by it. Raises ConfigError."""
    if slots.transforms:
        names = ", ".join(type(transform).__name__ for transform in slots.transforms)
        raise ConfigError(
            f"transforms: found {names}; method={method} shows real images as they are, beside generated ones, so "
            "leave its technique out, or set transforms.NAME=null"
        )
