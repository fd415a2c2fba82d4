"""Which images of a tree belong to a dataset or a list, their fingerprint, and what is missing. No torch, no
decoding."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from paribus.core.errors import ConfigError
from paribus.data.trees.manifest import Manifest
from paribus.data.trees.tree import Listing, format_some


def select_images(
    whole: Listing, known: Manifest | None, names: Sequence[str] | None, allow_missing: bool = False
) -> Listing:
    """The images that belong to the dataset: the training images in a list of names, else by the rule of a `share`."""
    if whole.split != "train" or (names is None and (known is None or known.share is None)):
        return whole
    if names is not None:
        rows = _select_by_name(whole, names, allow_missing)
    else:
        assert known is not None
        rows = _select_by_digest(whole, Fraction(str(known.share)))
    paths, targets = tuple(whole.paths[i] for i in rows), tuple(whole.targets[i] for i in rows)
    left = set(targets)
    absent = tuple(name for k, name in enumerate(whole.classes) if k not in left)
    return replace(whole, paths=paths, targets=targets, absent=absent)


def _select_by_name(whole: Listing, names: Sequence[str], allow_missing: bool) -> list[int]:
    """names: file names, or class/file. Raises ConfigError if one is missing."""
    wanted, rows = set(names), list[int]()
    met = set[str]()
    for i, path in enumerate(whole.paths):
        own = path.removeprefix("train/")
        hit = own if own in wanted else own.rpartition("/")[2]
        if hit in wanted:
            rows.append(i)
            met.add(hit)
    lost = sorted(wanted - met)
    if not rows or (lost and not allow_missing):
        raise ConfigError(
            f"--list: {len(lost):,} of {len(wanted):,} images are not in {whole.tree}: {format_some(lost)}"
        )
    return rows


def check_selection(part: Listing) -> None:
    """Raise ConfigError if no image of some class was chosen."""
    if part.absent:
        raise ConfigError(
            f"{part.tree / part.split}: too few images for all {len(part.classes):,} classes; none is chosen of "
            f"{format_some(part.absent)}"
        )


def keep_within(counts: Sequence[int], low: Sequence[int], high: Sequence[int]) -> list[int]:
    """Counts of the same sum within these bounds, as they are where they lie within. What some need is taken from the
    largest of the others, what some have too much goes to the smallest; the first in a tie.

    >>> keep_within([20, 2, 0], [1, 1, 1], [100, 10, 2])
    [19, 2, 1]
    """
    out = [min(max(n, least), most) for n, least, most in zip(counts, low, high, strict=True)]
    for _ in range(sum(out) - sum(counts)):
        out[max((k for k, n in enumerate(out) if n > low[k]), key=lambda k: (out[k], -k))] -= 1
    for _ in range(sum(counts) - sum(out)):
        out[min((k for k, n in enumerate(out) if n < high[k]), key=lambda k: (out[k], k))] += 1
    return out


def _select_by_digest(whole: Listing, share: Fraction) -> list[int]:
    """floor(share · n) images, allocated to the classes by largest remainder, at least one each where there are enough;
    within a class the smallest digests."""
    members: list[list[int]] = [[] for _ in whole.classes]
    for i, k in enumerate(whole.targets):
        members[k].append(i)
    exact = [len(m) * share for m in members]
    counts = [int(e) for e in exact]
    most_left = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
    for k in most_left[: int(len(whole.paths) * share) - sum(counts)]:
        counts[k] += 1
    sizes = [len(m) for m in members]
    least = [min(1, size) for size in sizes]
    if sum(least) <= sum(counts):
        counts = keep_within(counts, least, sizes)

    def digest(i: int) -> bytes:
        return hashlib.sha256(os.fsencode(whole.paths[i].rpartition("/")[2])).digest()

    return sorted(i for m, n in zip(members, counts, strict=True) for i in sorted(m, key=digest)[:n])


def compute_fingerprint(listings: Iterable[Listing]) -> str:
    """sha256 over path, class, size and modification time of every image. A missing file has size -1."""
    digest = hashlib.sha256()
    for part in listings:
        for path, target in zip(part.paths, part.targets, strict=True):
            try:
                state = os.stat(os.path.join(part.tree, path))
                size, changed = state.st_size, state.st_mtime_ns
            except OSError:
                size, changed = -1, 0
            digest.update(os.fsencode(f"{path}\0{part.classes[target]}\0{size}\0{changed}\n"))
    return digest.hexdigest()


def find_shortfalls(listings: Mapping[str, Listing], known: Manifest, names: Sequence[str] | None) -> list[str]:
    """What a tree lacks of its manifest. Raises ConfigError if it has more images, so is another dataset."""
    found = list[str]()
    for split, part in listings.items():
        expected = len(set(names)) if names is not None and split == "train" else known.count(split)
        if part.absent:
            found.append(f"{split}: {len(part.classes) - len(part.absent):,} of {len(part.classes):,} classes")
        if expected is not None and len(part.paths) < expected:
            found.append(f"{split}: {len(part.paths):,} of {expected:,} images")
        elif expected is not None and len(part.paths) > expected:
            raise ConfigError(
                f"{part.tree / split}: {len(part.paths):,} images, where {known.title} has {expected:,}; this is "
                f"another dataset or version (the name {known.name} is for that one, folder takes any tree)"
            )
    return found
