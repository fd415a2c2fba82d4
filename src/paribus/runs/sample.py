"""`paribus sample`: images of a trained generator, rounded to 8 bits as its evaluators see them."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paribus.core import runfolder
from paribus.core.capabilities import Samples, Translates
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.evaluation import EvaluationContext, make_context
from paribus.core.formatting import format_count
from paribus.core.image_grid import encode_png, make_grid, to_bytes
from paribus.core.spelling import did_you_mean
from paribus.engine.distributed import World
from paribus.engine.runtime import apply_runtime
from paribus.recipe.build import make_device_context
from paribus.runs.evaluation import name_classes
from paribus.runs.saved_run import SavedRun, describe_data, load_network

GRID = "grid.png"
_IN_GRID = 400  # images at most
_WIDEST = 20  # classes that have a column each


@dataclass(frozen=True)
class TrainedGenerator:
    """A trained generator with what makes pixels of its inputs. classes: a name for each that no other has."""

    network: Samples
    context: EvaluationContext
    classes: tuple[str, ...]

    def find_classes(self, names: Sequence[str]) -> tuple[int, ...]:
        """Of names or numbers. Raises ConfigError."""
        if names and not self.network.conditional:
            raise ConfigError("--classes: this generator knows no classes; leave it out")
        known = {str(k): k for k in range(len(self.classes))} | {name: k for k, name in enumerate(self.classes)}
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"--classes: found {name}{did_you_mean(name, list(self.classes))}; should be names or numbers from "
                    f"0 to {len(self.classes) - 1}"
                )
        return tuple(known[name] for name in names)

    def draw(self, count: int, seed: int, classes: Sequence[int], batch_size: int) -> Iterator[Tensor]:
        """(n, h, w, 1 or 3) uint8 on the CPU, in the order of ids 0 to count − 1. classes: of the images, in turn; ()
        all. Raises RunFailed for images that are no numbers."""
        device = self.context.place.device
        for ids in torch.arange(count, device=device).split(batch_size):
            wanted = torch.tensor(classes, device=device)[ids % len(classes)] if classes else None
            pixels = self.context.to_pixels(self.network.sample(ids, seed, wanted))
            if not bool(pixels.isfinite().all()):
                raise RunFailed("the generator's images are not finite")
            yield to_bytes(pixels).cpu()


def open_generator(found: SavedRun) -> TrainedGenerator:
    """Raises ConfigError for a method that makes no images of its own."""
    recipe = found.recipe
    data = describe_data(found)
    place = make_device_context(recipe, apply_runtime(recipe.runtime, World()), World())
    network: Any = load_network(found, recipe, data, place)
    if not isinstance(network, Samples):
        raise ConfigError(f"{found.name}: {_explain_none(found, network)}")
    network.prepare_eval()  # pyright: ignore[reportAttributeAccessIssue]
    names = name_classes(data.names, data.class_ids, data.spec.classes)
    return TrainedGenerator(network, make_context(data, place), names)


def _explain_none(found: SavedRun, network: Any) -> str:
    if found.export is not None:
        return "an export is a network alone, without what makes noise for it; give the run folder"
    name = type(network).__name__
    if isinstance(network, Translates):
        return (
            f"{name} makes images of given ones, and none from noise; in Python its translate(inputs, domains) does, "
            "and its evaluators show what it makes of the data's"
        )
    return f"{name} makes no images; a run of method=adversarial does, and paribus predict tells the classes of images"


def choose_columns(count: int, classes: int) -> int:
    """Of a grid: a class a column where there are few. classes: 0 of a generator without them.

    >>> choose_columns(64, 0), choose_columns(64, 10), choose_columns(5, 10), choose_columns(64, 1000)
    (8, 10, 5, 8)
    """
    wide = classes if 1 < classes <= _WIDEST else math.ceil(math.sqrt(min(count, _IN_GRID)))
    return min(count, wide)


def _refuse_leftovers(folder: Path, count: int) -> None:
    """Who measures a folder would take them for this generator's and seed's."""
    left = sorted(p.name for p in folder.glob("*.png") if re.fullmatch(r"\d{6,}", p.stem) and int(p.stem) >= count)
    if left:
        raise ConfigError(
            f"--n: {folder} has {format_count(len(left), 'image')} from before that {count:,} new ones would not "
            f"replace (from {left[0]} on); delete them, or choose another folder with --out"
        )


def write_samples(
    generator: TrainedGenerator, folder: Path, count: int, seed: int, classes: Sequence[int], batch_size: int
) -> Path:
    """Write 000000.png and so on, and grid.png of the first of them, whose path it returns. Raises ConfigError, also
    where images of an earlier call would be left among them, and RunFailed."""
    _refuse_leftovers(folder, count)
    shown: list[Tensor] = []
    total = len(classes or generator.classes) if generator.network.conditional else 0
    try:
        with runfolder.create_folder(folder):
            for start, images in enumerate(generator.draw(count, seed, classes, batch_size)):
                for k, image in enumerate(images, start * batch_size):
                    (folder / f"{k:06d}.png").write_bytes(encode_png(image))
                shown += images[: max(0, _IN_GRID - start * batch_size)]
            grid = encode_png(make_grid(torch.stack(shown), choose_columns(count, total)))
            runfolder.write_atomically(folder / GRID, grid)
    except OSError as error:
        raise ConfigError(f"--out: {folder} cannot be written: {error.strerror}") from error
    return folder / GRID
