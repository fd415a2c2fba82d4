"""Parts of a recipe that would draw the same random numbers, so that one of them would do less than it seems to.

A transform's stream has its technique's name, and an augmentation's its key, beside which the loader has streams of its
own. Renaming them would change every recorded run, so what collides is refused.
"""

from collections.abc import Mapping
from typing import Any

from paribus.core.errors import ConfigError
from paribus.data.ops.draws import OF_LOADERS


def refuse_equal_draws(transforms: Mapping[str, Any], augment: Any) -> None:
    """Raises ConfigError for two transforms of one of our classes, and for an augmentation with a loader's name.
    augment: the config of `data.augment`, if the data have one. A transform with a `name` says its stream itself."""
    first: dict[type, str] = {}
    for key, one in transforms.items():
        if one is None or hasattr(one, "name") or not type(one).__module__.startswith("paribus."):
            continue
        if (other := first.setdefault(type(one), key)) != key:
            raise ConfigError(
                f"transforms.{key}: is a {type(one).__name__} as transforms.{other} is, and draws the same numbers, so "
                "that it would do the same again; leave one of them out"
            )
    for key in augment if isinstance(augment, Mapping) else ():
        if key in OF_LOADERS and augment[key] is not None:
            raise ConfigError(
                f"data.augment.{key}: loaders draw their crops and flips under this name, so that both would get the "
                "same numbers; give it another name"
            )
