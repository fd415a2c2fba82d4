"""Where config classes used to be: the table of old and new dotted names.

A class's dotted name is written in recorded configs, and is hashed into the ids of runs. When a class moves, its line
here keeps both working: `to_current_name` gives what a recorded name means today (core/build.py imports through it),
`to_recorded_names` gives the name under which today's class is hashed (recipe/identity.py). A line is never changed or
removed; a class that moves twice keeps its first name on the left and has its newest on the right.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

MOVED: Mapping[str, str] = MappingProxyType(
    {
        "paribus.cli.compose.CheckpointsConfig": "paribus.recipe.recipe.CheckpointsConfig",
        "paribus.cli.compose.EveryConfig": "paribus.recipe.recipe.EveryConfig",
        "paribus.cli.compose.PathsConfig": "paribus.recipe.recipe.PathsConfig",
        "paribus.exported.Exported": "paribus.models.exported.Exported",
    }
)
_RECORDED_NAMES = MappingProxyType({new: old for old, new in MOVED.items()})


def to_current_name(name: str) -> str:
    """The dotted name under which a class is imported today.

    >>> to_current_name("paribus.exported.Exported"), to_current_name("paribus.models.vit.ViT")
    ('paribus.models.exported.Exported', 'paribus.models.vit.ViT')
    """
    return MOVED.get(name, name)


def to_recorded_names(node: Any) -> Any:
    """A copy of plain config data in which every class, at any depth, has the name under which it is hashed.

    >>> to_recorded_names({"teacher": {"_target_": "paribus.models.exported.Exported"}})
    {'teacher': {'_target_': 'paribus.exported.Exported'}}
    """
    if isinstance(node, Mapping):
        return {
            key: _RECORDED_NAMES.get(value, value)
            if key == "_target_" and isinstance(value, str)
            else to_recorded_names(value)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [to_recorded_names(item) for item in node]
    return node
