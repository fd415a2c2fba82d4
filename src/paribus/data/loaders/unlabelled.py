"""Inputs from image files without labels, in order, for prediction: to the bit what evaluation makes of such files.

files = list_image_files([Path("photos"), Path("one.jpg")])            # data/trees/files.py
preprocessing = find_file_preprocessing(recipe.data)                   # the run's own
for batch in unlabelled_batches(files, preprocessing, place, 64):
    scores = method.predict(batch.inputs)                              # of batch.paths; batch.errors were skipped
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from paribus.core.protocols import DeviceContext
from paribus.data.loaders.preprocessing import FilePreprocessing
from paribus.data.loaders.settings import choose_workers
from paribus.data.loaders.worker_pool import WorkerPool, allocate_buffer
from paribus.data.ops.inputs import InputTransform
from paribus.data.trees.decoding import BadImage

_FILES_PER_WORKER = 64  # fewer take less time than starting a process


class UnlabelledBatch(NamedTuple):
    """paths: of the n files that were read, in order. inputs: (n, c, size, size) on the device; n may be 0. rows: (n,)
    int64 on the CPU, which of the files they are. errors: path and reason of each that was not."""

    paths: tuple[Path, ...]
    inputs: Tensor
    rows: Tensor
    errors: tuple[tuple[Path, str], ...]


class _Piece(NamedTuple):
    pixels: Tensor
    rows: Tensor
    errors: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _PieceDecoder:
    """Pieces of batches: index k · pieces + j is piece j of batch k, so that all workers share a batch."""

    files: Sequence[Path]
    preprocessing: FilePreprocessing
    batch_size: int
    pieces: int

    def __call__(self, index: int, is_wanted: Callable[[], bool]) -> _Piece:
        batch, piece = divmod(index, self.pieces)
        share = -(-self.batch_size // self.pieces)
        start = batch * self.batch_size + piece * share
        stop = min(start + share, (batch + 1) * self.batch_size, len(self.files))
        side, channels = self.preprocessing.stored, self.preprocessing.channels
        pixels = allocate_buffer(max(0, stop - start), side, side, channels)
        out, rows, errors = pixels.numpy(), list[int](), list[tuple[int, str]]()
        for row in range(start, stop):
            if not is_wanted():
                break
            try:
                out[len(rows)] = self.preprocessing.decode(self.files[row])
                rows.append(row)
            except BadImage as error:
                errors.append((row, str(error)))
        return _Piece(pixels[: len(rows)], torch.tensor(rows, dtype=torch.int64), tuple(errors))


def unlabelled_batches(
    files: Sequence[Path], preprocessing: FilePreprocessing, place: DeviceContext, batch_size: int
) -> Iterator[UnlabelledBatch]:
    """Each file once, in order; `batch_size` files a batch, fewer in the last. A file that does not decode is reported
    in its batch's `errors` and left out. Inputs do not depend on batch size or workers."""
    item_bytes = preprocessing.stored**2 * preprocessing.channels * batch_size
    workers = min(choose_workers(preprocessing.workers, place, item_bytes), batch_size, len(files) // _FILES_PER_WORKER)
    pieces, transform = max(1, workers), InputTransform(preprocessing.input_spec, place)
    pool = WorkerPool(
        _PieceDecoder(files, preprocessing, batch_size, pieces), workers, pinned=place.device.type == "cuda"
    )
    try:
        for k in range(-(-len(files) // batch_size)):
            parts = [pool.take(index) for index in range(k * pieces, (k + 1) * pieces)]
            rows = torch.cat([part.rows for part in parts])
            yield UnlabelledBatch(
                tuple(files[row] for row in rows.tolist()),
                _make_inputs([part.pixels for part in parts], preprocessing, transform, place),
                rows,
                tuple((files[row], reason) for part in parts for row, reason in part.errors),
            )
    finally:
        pool.close()


def _make_inputs(
    pixels: Sequence[Tensor], preprocessing: FilePreprocessing, transform: InputTransform, place: DeviceContext
) -> Tensor:
    stored = torch.cat([part.to(place.device, non_blocking=True) for part in pixels])
    if not len(stored):
        shape = (0, preprocessing.channels, preprocessing.size, preprocessing.size)
        return torch.empty(shape, dtype=place.dtype, device=place.device)
    return transform.transform_eval(stored if preprocessing.change is None else preprocessing.change(stored))
