"""ImageNet-like datasets: an ImageFolder tree, packed once into squares of one size, or decoded again in every step.

Both forms give a sample the same crop, flip and augmentations, and are bit-exact where the files are squares of the
pack's size; for other files the packed form crops from what the pack stores, the resized centre square.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.cores import count_cores
from paribus.core.errors import ConfigError
from paribus.core.long_step import long_step
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.loaders.from_files import build_decoded_sets
from paribus.data.loaders.in_memory import Images, StorageMode, build_in_memory_sets
from paribus.data.loaders.preprocessing import DecodeSquare, FilePreprocessing
from paribus.data.loaders.settings import ImageDataSettings, build_input_spec
from paribus.data.loaders.subset import choose_strata
from paribus.data.ops.input_spec import Interpolation
from paribus.data.ops.inputs import resized_crop
from paribus.data.packs.format import RECORD_FILE, default_folder
from paribus.data.packs.open import Pack, open_pack
from paribus.data.packs.prepare import PrepareRequest, inspect_source, prepare
from paribus.data.packs.write import ProgressSink
from paribus.data.trees.boxes import BOXES_FILE, match_boxes, place_boxes, read_boxes
from paribus.data.trees.decoding import Placement
from paribus.data.trees.facts import check_matched, match_facts, read_facts
from paribus.data.trees.manifest import FOLDER, Manifest, load_manifest
from paribus.data.trees.source import FolderSource, open_folder_source
from paribus.data.trees.tree import find_tree


@schema
class ImageSet(ImageDataSettings):
    """An image dataset: a folder with train/ and val/, each with one folder per class.

    name: of a manifest (`paribus data list`), or `folder` for a tree of your own. root: the tree, or the folder that
    holds it; else PARIBUS_DATA, else ./data. form: `packed` reads what `paribus data prepare` made of it, `folder` the
    tree itself. pack_size: pixels a side in the pack. pack: the pack's folder, else ROOT/packed/NAME-SIZE, with -cN for
    other than 3 channels. keep: where packed pixels are stored (data/loaders/in_memory.py). download: fetch, unpack and
    pack what is missing, as `paribus data prepare --download` does.

    The tree's boxes.csv and facts.csv, or what the pack has of them, are in `Batch.also` (docs/data.md).

    on_error=skip: in the packed form, the images that the pack skipped are reported and left out; in the folder form,
    an image that does not decode is replaced in training by the next one of its class that does, and left out of
    evaluation.
    """

    name: str
    root: str | None = None
    form: Literal["packed", "folder"] = "packed"
    pack_size: Annotated[int, Field(ge=8, le=1024)] = 160
    pack: str | None = None
    keep: StorageMode = "auto"
    download: bool = False

    @property
    def needs_content_check(self) -> bool:
        """The config does not identify the images, so a resumed or completed run compares their checksum."""
        return True

    def is_at(self, root: Path) -> bool:
        """Whether the set's own tree or pack lies under this root."""
        folder = default_folder(root, self.name, self.pack_size, self.channels)
        if self.form == "packed" and (folder / RECORD_FILE).is_file():
            return True
        try:
            find_tree(root, None if self.name == FOLDER else load_manifest(self.name))
        except ConfigError:
            return False
        return True

    def __call__(self, place: DeviceContext) -> DataSets:
        with _config_key_in_errors("data.name"):
            known = None if self.name == FOLDER else load_manifest(self.name)
        if self.download and place.world > 1:
            raise ConfigError(
                f"data.download: only one process may download; first run paribus data prepare {self.name} --download"
            )
        root = Path(self.root or os.environ.get("PARIBUS_DATA") or "data").expanduser()
        return (
            self._load_from_files(root, known, place) if self.form == "folder" else self._load_pack(root, known, place)
        )

    def file_preprocessing(self) -> FilePreprocessing:
        """What evaluation makes of an image file: of a packed set first the square that a pack stores."""
        if self.form == "folder":
            return super().file_preprocessing()
        return FilePreprocessing(
            DecodeSquare(self.pack_size, self.channels),
            self.pack_size,
            self.size,
            self.channels,
            build_input_spec(self),
            build_center_crop(self.size, self.eval_ratio, self.interpolation),
            self.workers,
        )

    def _load_pack(self, root: Path, known: Manifest | None, place: DeviceContext) -> DataSets:
        if self.size > self.pack_size:
            raise ConfigError(
                f"data.size: found {self.size}; a pack of data.pack_size={self.pack_size} has fewer pixels a side; "
                "pack larger ones, or decode in every step with data.form=folder"
            )
        where = (
            Path(self.pack).expanduser()
            if self.pack
            else default_folder(root, self.name, self.pack_size, self.channels)
        )
        if self.download:  # does nothing if the pack is there and up to date
            with ExitStack() as stack:
                prepare(self._prepare_request(root, where), _report_progress(stack))
        pack = open_pack(where, self.name, self.pack_size, root, self.channels)
        if pack.partial:
            _warn(f"{pack.folder} was made from a partial tree: {'; '.join(pack.partial)}")
        skipped = self._report_skipped(pack)
        train, val = (
            Images(s.images, s.targets, s.ids, also={**s.facts, **self._place_packed_boxes(s.boxes)})
            for s in (pack.splits[k] for k in ("train", "val"))
        )
        sets = build_in_memory_sets(
            self.name,
            train,
            val,
            len(pack.classes),
            build_input_spec(self),
            place,
            self.train_size,
            self.minival,
            _readable_class_names(pack.classes, known),
            self.keep,
            build_center_crop(self.size, self.eval_ratio, self.interpolation),
            pack.checksum,
            pack.classes,
            strata=choose_strata(train.targets, train.also),
        )
        names = tuple(line.partition(": ")[0] for line in skipped)  # a pack's lines say why, too
        return replace(sets, undecodable=lambda: names)

    def _place_packed_boxes(self, boxes: Tensor | None) -> dict[str, Tensor]:
        """Boxes in pixels of the pack as those of evaluation's inputs."""
        if boxes is None:
            return {}
        n, crop = len(boxes), _place_crop(self.size, self.eval_ratio)
        placed = place_boxes(boxes.numpy(), np.full((n, 2), self.pack_size), np.tile(crop, (n, 1)), self.size)
        return {"box": torch.from_numpy(placed).float()}

    def _prepare_request(self, root: Path, pack: Path | None) -> PrepareRequest:
        skip = self.on_error == "skip"
        workers = count_cores() if self.workers == "auto" else max(1, self.workers)  # the run waits for the pack
        return PrepareRequest(
            self.name, root, self.pack_size, pack, workers, download=True, skip=skip, channels=self.channels
        )

    def _report_skipped(self, pack: Pack) -> tuple[str, ...]:
        """The names of the images that the pack is without. Raises ConfigError if the run has to have them."""
        skipped = tuple(name for split in pack.splits.values() for name in split.skipped)
        if not skipped:
            return ()
        names = ", ".join(skipped[:5]) + (", …" if len(skipped) > 5 else "")
        if self.on_error == "raise":
            raise ConfigError(
                f"data.on_error: the pack {pack.folder} is without {len(skipped)} images that do not decode ({names}); "
                "data.on_error=skip trains and evaluates without them"
            )
        _warn(f"{pack.folder} is without {len(skipped)} images that do not decode: {names}")
        return skipped

    def _load_from_files(self, root: Path, known: Manifest | None, place: DeviceContext) -> DataSets:
        for key, usual in (("pack", None), ("keep", "auto")):
            if (found := getattr(self, key)) != usual:
                raise ConfigError(f"data.{key}: found {found}; data.form=folder reads no pack")
        if self.download:
            with ExitStack() as stack:
                inspect_source(self._prepare_request(root, None), _report_progress(stack))
        with _config_key_in_errors("data.root"):
            tree = find_tree(root, known)
        train, val = (open_folder_source(tree, split, known, channels=self.channels) for split in ("train", "val"))
        if place.rank == 0:
            for source in (train, val):
                if source.unread:
                    _warn(source.unread)
        if known is not None:
            for split, source in (("train", train), ("val", val)):
                if len(source) != (expected := known.count(split)) and expected is not None:
                    _warn(f"{tree / split} has {len(source):,} images, {known.title} {expected:,}")
        names, sources = _readable_class_names(train.classes, known), {"train": train, "val": val}
        boxes, facts = _read_boxes(tree, sources), _read_facts(tree, sources, place.rank == 0)
        return build_decoded_sets(self.name, train, val, self, place, names, boxes, facts)


def _read_boxes(tree: Path, sources: Mapping[str, FolderSource]) -> dict[str, Tensor]:
    """The box of each image of each split, NaN for none; {} if the tree has no boxes."""
    if not (found := read_boxes(tree)):
        return {}
    boxes = {
        split: torch.from_numpy(match_boxes(found, map(source.image_name, range(len(source)))))
        for split, source in sources.items()
    }
    if all(part.isnan().all() for part in boxes.values()):
        raise ConfigError(f"{tree / BOXES_FILE}: none of its {len(found):,} lines is of an image of the tree")
    return boxes


def _read_facts(tree: Path, sources: Mapping[str, FolderSource], warns: bool) -> dict[str, dict[str, Tensor]]:
    """What the tree's facts.csv says of the images of each split; {} if there is none."""
    if (table := read_facts(tree)) is None:
        return {}
    paths = {split: list(map(source.image_name, range(len(source)))) for split, source in sources.items()}
    warning = check_matched(tree, table, (path for names in paths.values() for path in names))
    if warning and warns:
        _warn(warning)
    found = {split: match_facts(table, names) for split, names in paths.items()}
    return {split: {name: torch.from_numpy(v) for name, v in facts.items()} for split, facts in found.items()}


def _report_progress(stack: ExitStack) -> ProgressSink:
    """Lines on standard error, and a bar on a terminal until the stack is closed."""

    def begin(total: int, done: int) -> Callable[[int], None]:
        advance = stack.enter_context(long_step("packing", total, "images"))
        advance(done)
        return advance

    return ProgressSink(lambda line: print(line, file=sys.stderr), begin)


@contextmanager
def _config_key_in_errors(key: str) -> Iterator[None]:
    """Put the config key in front of errors from modules that know of no config."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _place_crop(size: int, ratio: float) -> Placement:
    """Of `build_center_crop`, for squares of any size."""
    side = round(size / ratio)
    start = round((side - size) / 2.0)
    return Placement(side, side, start, start)


def build_center_crop(size: int, ratio: float, interpolation: Interpolation) -> Callable[[Tensor], Tensor]:
    """The evaluation transform of stored squares: (b, s, s, 3) uint8 resized to round(size / ratio) a side, then the
    centre size×size crop. Computed anew in each evaluation, with the operations of the training crop."""
    side, _, _, start = _place_crop(size, ratio)

    def transform(images: Tensor) -> Tensor:
        b, height, width, _ = images.shape
        if height != side:
            whole = torch.tensor([0, 0, height, width]).expand(b, 4)  # the host's: nothing to wait for
            rows = torch.arange(b, device=images.device)
            images = resized_crop(images, rows, whole, (side, side), interpolation)
        return images[:, start : start + size, start : start + size].contiguous()

    return transform


def _readable_class_names(classes: tuple[str, ...], known: Manifest | None) -> tuple[str, ...]:
    return tuple(known.classes.get(name, name) for name in classes) if known else classes
