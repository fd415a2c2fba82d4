"""Which samples belong to a subset: fixed by the dataset's name, the same for every run, seed and machine."""

import hashlib
import sys
from collections.abc import Mapping

import torch
from torch import Tensor

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.core.protocols import DeviceContext
from paribus.core.streams import stream
from paribus.data.trees.select import keep_within


def _allocate_per_class(counts: list[int], n: int) -> list[int]:
    """n allocated in proportion to the counts, by largest remainder (the smaller class id first in a tie)."""
    total = sum(counts)
    shares = [count * n / total for count in counts]
    out = [int(share) for share in shares]
    by_remainder = sorted(range(len(counts)), key=lambda k: (out[k] - shares[k], k))
    for k in by_remainder[: n - sum(out)]:
        out[k] += 1
    return out


def _allocate(sizes: list[int], n: int, name: str, last: bool, key: str) -> list[int]:
    """How many of the n samples are of each class. Raises ConfigError if a class would get none, or with `last` be left
    with none."""
    least, most = [min(1, size) for size in sizes], sizes
    if last:
        most = [max(0, size - 1) for size in sizes]
        if n > sum(most):
            raise ConfigError(
                f"{key}: found {n}; of the {sum(sizes)} images of {name} at most {sum(most)} can be held out, so that "
                "each class keeps one"
            )
        least = [min(1, m) for m in most] if n >= sum(min(1, m) for m in most) else [0] * len(sizes)
    elif n < sum(least):
        raise ConfigError(f"{key}: found {n}; {name} has {sum(least)} classes, and each needs at least one image")
    return keep_within(_allocate_per_class(sizes, n), least, most)


def combine_strata(targets: Tensor, *further: Tensor) -> Tensor:
    """One stratum for each combination of labels that there is, in order, (n,) int64: what `split_training_set` takes
    in the place of classes, so that a subset has the groups of each class in proportion too."""
    cells = torch.stack((targets, *further), 1)
    return cells.unique(dim=0, return_inverse=True)[1]


def choose_strata(targets: Tensor, facts: Mapping[str, Tensor]) -> Tensor:
    """What subsets of a training set keep in proportion: its classes, or the groups of each class where these are
    known, those that nobody has annotated among them. facts: as in `Batch.also`."""
    return targets if "group" not in facts else combine_strata(targets, facts["group"])


UNKNOWN = -1  # the group of a sample that nobody has annotated


def hide_groups(groups: Tensor, targets: Tensor, share: float, name: str) -> Tensor:
    """The groups with UNKNOWN (-1) outside of a share of each cell of class and group, which a fixed order of its
    samples begins with: a smaller share lies inside a larger one. Each cell keeps one known sample.

    groups, targets: (n,) int64. share: from 0, which hides all, to 1.
    """
    known = torch.zeros(len(groups), dtype=torch.bool)
    cells = combine_strata(targets, groups)
    for cell in range(int(cells.max()) + 1) if share > 0 else ():
        members = torch.nonzero(cells == cell).flatten()
        order = members[torch.randperm(len(members), generator=stream(0, "groups", name, cell))]
        known[order[: max(1, round(share * len(order)))]] = True
    return torch.where(known, groups, UNKNOWN)


def split_training_set(
    targets: Tensor, name: str, train_size: int | None, minival: int
) -> tuple[Tensor, Tensor | None]:
    """The training samples that are used, and those held out for selection, as indices in increasing order: `minival`
    are held out first, then `train_size` of the rest are kept; None keeps all, 0 holds out none. Every class keeps a
    training image. targets: the classes, or finer strata."""
    used, held_out = torch.arange(len(targets)), None
    if minival >= len(targets):
        raise ConfigError(f"data.minival: found {minival}; there are {len(targets)} training images to share")
    if minival:
        held_out = sample_stratified(targets, minival, name, last=True, key="data.minival")
        rest = torch.ones(len(targets), dtype=torch.bool)
        rest[held_out] = False
        used = used[rest]
    if train_size is not None:
        used = used[sample_stratified(targets[used], train_size, name, key="data.train_size")]
    return used, held_out


TRAIN_SAMPLE = "train_sample"  # the split of the images that choose_train_sample chooses
_TRAIN_SAMPLE_SIZE = 1000


def choose_train_sample(n: int) -> Tensor:
    """Indices of at most 1,000 of n training samples, evenly spaced: they are evaluated beside the test images, without
    augmentation, to see how well a network fits what it is trained on."""
    size = min(n, _TRAIN_SAMPLE_SIZE)
    return torch.arange(size) * n // size


def sample_stratified(targets: Tensor, n: int, name: str, *, last: bool = False, key: str = "n") -> Tensor:
    """Indices of n samples, in increasing order, with the classes in proportion.

    Each class has one fixed order; the first ones are taken, or with `last` the last ones. So a smaller subset lies
    inside a larger one, and a split held out from the end never overlaps a subset taken from the front while both fit.

    Every class has a sample in what is taken from the front, and one outside of what is taken from the end, in which it
    has one too if n is large enough.
    """
    if not 0 < n <= len(targets):
        raise ConfigError(f"{key}: found {n}; {name} has {len(targets)} samples to choose from")
    classes = int(targets.max()) + 1
    members = [torch.nonzero(targets == k).flatten() for k in range(classes)]
    chosen: list[Tensor] = []
    for k, count in enumerate(_allocate([len(m) for m in members], n, name, last, key)):
        order = members[k][torch.randperm(len(members[k]), generator=stream(0, "subset", name, k))]
        chosen.append(order[len(order) - count :] if last else order[:count])
    return torch.cat(chosen).sort().values


def count_classes(targets: Tensor, classes: int) -> tuple[int, ...]:
    """How many samples each class has. targets: (n,) int64 labels."""
    return tuple(targets.bincount(minlength=classes).tolist())


def report_empty_classes(
    splits: Mapping[str, Tensor], classes: int, names: tuple[str, ...], place: DeviceContext
) -> None:
    """Say on standard error which classes a split has no image of. splits: the labels of each."""
    for split, targets in splits.items() if place.rank == 0 else ():
        empty = torch.nonzero(targets.bincount(minlength=classes)[:classes] == 0).flatten().tolist()
        if empty:
            listed = format_list(names[k] if names else f"#{k}" for k in empty)
            count = f"{len(empty):,} of {classes:,} classes"
            print(f"warning: data: {split} has no image of {count}: {listed}", file=sys.stderr)


def compute_checksum(
    images: Tensor | str,
    targets: Tensor,
    ids: Tensor,
    rows: Tensor | None = None,
    facts: Mapping[str, Tensor] | None = None,
) -> str:
    """sha256 over the chosen samples: their indices, labels, facts and pixels, which is what a step is given.

    images: (N, h, w, c), of which `rows` are chosen (None: all), or a checksum that stands for all of them. facts: as
    in `Batch.also`, of training batches; without any the checksum is the one of before there were facts.
    """
    digest = hashlib.sha256()
    for part in (ids, targets):
        digest.update(part.contiguous().cpu().numpy().data)
    for name, values in sorted((facts or {}).items()):
        digest.update(f"{name}\0{values.dtype}\0{tuple(values.shape)}\n".encode())
        digest.update(values.contiguous().cpu().numpy().data)
    if isinstance(images, str):
        digest.update(images.encode())
        return digest.hexdigest()
    for here in (torch.arange(len(images)) if rows is None else rows).split(4096):  # a set may be larger than memory
        digest.update(images[here].contiguous().cpu().numpy().data)
    return digest.hexdigest()
