"""From stored pixels to a batch's inputs, as a Look says."""

import torch
from torch import Tensor

from paribus.core.protocols import Place
from paribus.data.augment import crop, flipped, normalised, padded
from paribus.data.draws import Draws
from paribus.data.look import Look, PadCrop
from paribus.data.resample import resized_crop


class Inputs:
    """Makes inputs at a place under a look. Images: (n, h, w, c) uint8, contiguous."""

    def __init__(self, look: Look, place: Place) -> None:
        self._look, self._place = look, place
        self._mean, self._std = (torch.tensor(v, dtype=place.dtype, device=place.device) for v in (look.mean, look.std))

    def training(self, images: Tensor, rows: Tensor, draws: Draws) -> Tensor:
        """Crop, flip, augment and normalise: (b, c, h, w).

        rows: (b,) int64, where the samples lie in `images`, on the images' device, as draws.ids.
        """
        look, crop_rule = self._look, self._look.crop
        if isinstance(crop_rule, PadCrop):
            drawn = draws("crop_and_flip", 3) if crop_rule.pad or look.flip else None
            out = images[rows]
            if crop_rule.pad:
                assert drawn is not None
                _, height, width, _ = images.shape
                top, left = crop_rule.offsets(drawn[:, :2]).unbind(1)
                here = torch.arange(len(rows), device=images.device)
                out = crop(padded(out, crop_rule.pad), here, top, left, height, width)
            if look.flip:
                assert drawn is not None
                out = flipped(out, drawn[:, 2] < 0.5)
            return self.augmented(out, draws)
        boxes = crop_rule.boxes(draws, images.shape[1], images.shape[2])
        size = (crop_rule.size, crop_rule.size)
        return self.cropped(resized_crop(images, rows, boxes, size, crop_rule.interpolation), draws)

    def cropped(self, images: Tensor, draws: Draws) -> Tensor:
        """The rest, for images that a ResizedCrop has cropped already (decoded one by one): flip, augment, normalise.

        images: (b, h, w, c) uint8 on the place's device, image i that of draws.ids[i].
        """
        return self.augmented(flipped(images, draws("flip", 1)[:, 0] < 0.5) if self._look.flip else images, draws)

    def augmented(self, images: Tensor, draws: Draws) -> Tensor:
        """The look's augmentations, then normalisation."""
        for name, augmentation in self._look.augment.items():
            images = augmentation(images, draws, name)
        return self.plain(images)

    def plain(self, images: Tensor) -> Tensor:
        """Normalised and nothing else, for evaluation: (b, h, w, c) uint8 to (b, c, h, w)."""
        return normalised(images, self._mean, self._std, self._place.memory_format)
