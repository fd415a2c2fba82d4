"""A label is an index into the classes of its set, and means nothing beside those of another set.

So wherever two sets meet (training and validation images, a checkpoint and the data it is evaluated on, a teacher and
its student) the classes' names are compared, and the labels of one set are turned into those of the other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list


def choose_class_ids(ids: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """What classes are matched by: their ids, else their names; () where neither is known, or two are the same."""
    chosen = tuple(ids or names)
    return chosen if len(set(chosen)) == len(chosen) else ()


def format_classes(ids: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """For summary.json and exports: `classes`, [] where they are not known, and `class_ids` where those differ."""
    different = {"class_ids": list(ids)} if names and ids and tuple(ids) != tuple(names) else {}
    return {"classes": list(names or ids), **different}


def read_class_ids(written: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What `format_classes` wrote. None: a file from before there were names, or with something else in their place."""
    ids, names = written.get("class_ids", []), written.get("classes")
    if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in (ids, names)):
        return None
    return choose_class_ids(ids, names or ())


def match_classes(
    given: Sequence[str], known: Sequence[str], what: str, whose: str, allow_missing: bool = False
) -> tuple[int, ...]:
    """For each class of `given`, its index in `known`.

    what, whose: the two sets, in messages. allow_missing: `given` may be without some classes of `known`. Raises
    ConfigError with the names that differ.
    """
    index = {name: k for k, name in enumerate(known)}
    strange = [name for name in given if name not in index]
    here = set(given)
    missing = [] if allow_missing else [name for name in known if name not in here]
    if strange or missing:
        found = [f"not in {whose}: {format_list(strange)}"] if strange else []
        found += [f"only in {whose}: {format_list(missing)}"] if missing else []
        raise ConfigError(f"{what}: its classes are not those of {whose}; {'; '.join(found)}")
    return tuple(index[name] for name in given)


def relabel(
    splits: Mapping[str, Callable[[int], Iterable[Batch]]], indices: Sequence[int], classes: int
) -> dict[str, Callable[[int], Iterable[Batch]]]:
    """Evaluation splits with label k replaced by indices[k], an index into `classes` classes."""
    table = torch.tensor(indices)

    def changed(batches: Callable[[int], Iterable[Batch]]) -> Callable[[int], Iterator[Batch]]:
        def again(batch_size: int) -> Iterator[Batch]:
            for batch in batches(batch_size):
                yield replace(batch, targets=table.to(batch.targets.device)[batch.targets], classes=classes)

        return again

    return {name: changed(batches) for name, batches in splits.items()}
