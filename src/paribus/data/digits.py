"""The 1,797 handwritten digits that scikit-learn ships (UCI optdigits, 8×8 pixels): real images without a download."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field

from paribus.core.build import schema
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.loaders.epoch_order import Sampling
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.loaders.preprocessing import DecodeSquare, FilePreprocessing
from paribus.data.loaders.subset import sample_stratified
from paribus.data.ops.input_spec import Augmentation, InputSpec, PadCrop

_TEST_SIZE = 360  # a fifth, stratified; the dataset comes without a split of its own


@schema
class Digits:
    """1,437 training and 360 test images, grey, 10 classes; the test set is the split `val`.

    Mirror images of digits are not digits, so there is no flip.

    train_size: a stratified subset of the training set. minival: images held out from it for selection. sampling: each
    image once an epoch, or each class equally often. pad: random crop after this many pixels of padding. augment:
    further augmentations by name, in order.
    """

    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    sampling: Sampling = "shuffle"
    pad: Annotated[int, Field(ge=0, le=4)] = 1
    augment: Mapping[str, Augmentation] = Field(default_factory=dict)

    def __call__(self, place: DeviceContext) -> DataSets:
        from sklearn.datasets import load_digits  # takes a second to import

        raw: Any = load_digits()
        images = torch.from_numpy(raw.images * 15).round().to(torch.uint8)[..., None]  # grey levels 0..16 to 0..240
        everything = Images(images, torch.from_numpy(raw.target).long(), torch.arange(len(images)))
        test = sample_stratified(everything.targets, _TEST_SIZE, "digits.test")
        rest = torch.ones(len(images), dtype=torch.bool)
        rest[test] = False
        train, val = everything.select(torch.nonzero(rest).flatten()), everything.select(test)
        input_spec = self._input_spec()
        names = tuple("0123456789")
        return build_in_memory_sets("digits", train, val, 10, input_spec, place, self.train_size, self.minival, names)

    def file_preprocessing(self) -> FilePreprocessing:
        """An image file made grey, 8 pixels a side. In the set a digit is bright on black."""
        return FilePreprocessing(DecodeSquare(8, 1), 8, 8, 1, self._input_spec())

    def _input_spec(self) -> InputSpec:
        balanced = self.sampling == "balanced"
        return InputSpec((0.287,), (0.353,), PadCrop(pad=self.pad), False, self.augment, 1, balanced)
