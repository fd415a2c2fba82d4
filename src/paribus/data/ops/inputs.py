"""From stored pixels to a batch's inputs, as an InputSpec says: on a CPU by the kernel of inputs.c in one pass; on
other devices, in float64 or without a compiler by tensor operations. Both give the same numbers."""

import torch
from torch import Tensor

from paribus.core.batch import unique_sample_ids
from paribus.core.protocols import DeviceContext
from paribus.core.streams import key64
from paribus.data.ops import native, resize
from paribus.data.ops.crop_flip import crop, hflip, normalize, pad_images, scale_and_shift
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import InputSpec, Interpolation, PadCrop
from paribus.data.ops.transfer import to_device


class InputTransform:
    """Makes inputs on a device as an InputSpec says. Images: (n, h, w, c) uint8, contiguous, on that device."""

    def __init__(self, input_spec: InputSpec, place: DeviceContext) -> None:
        self._input_spec, self._place = input_spec, place
        self._mean, self._std = (
            torch.tensor(v, dtype=place.dtype, device=place.device) for v in (input_spec.mean, input_spec.std)
        )
        self._scale, self._shift = scale_and_shift(self._mean, self._std)
        self._native = (
            place.device.type == "cpu"
            and place.dtype == torch.float32
            and len(input_spec.mean) <= native.MAX_CHANNELS
            and native.load_kernels() is not None
        )

    def transform_train(self, images: Tensor, rows: Tensor, draws: SampleRandom) -> Tensor:
        """Crop, flip, augment and normalise: (b, c, h, w).

        rows: (b,) int64, indices of the samples in `images`.
        """
        if self._native:
            if not self._input_spec.augment:
                return self._run_crop_kernel(images, rows, draws, normalise=True)
            return self._augment(self._run_crop_kernel(images, rows, draws, normalise=False), draws)
        rule = self._input_spec.crop
        if isinstance(rule, PadCrop):
            return self._augment(_pad_crop(images, rows, draws, rule, self._input_spec.flip), draws)
        boxes, size = rule.boxes(draws, *images.shape[1:3]), (rule.size, rule.size)
        return self.transform_cropped(resize.resized_crop(images, rows, boxes, size, rule.interpolation), draws)

    def crop_shares(self, draws: SampleRandom, height: int, width: int) -> Tensor:
        """The crops that `transform_train` takes of images of this size, (b, 4), as `Batch.also["crop"]` has them:
        drawn once more, from the same streams, so that the kernel need not hand them on."""
        shares = self._input_spec.crop.shares(draws, height, width).to(self._place.dtype)
        return to_device(self._place.device, shares)[0]

    def transform_cropped(self, images: Tensor, draws: SampleRandom) -> Tensor:
        """The rest, for images that a ResizedCrop has cropped already (decoded one by one): flip, augment, normalise.

        images: (b, h, w, c) uint8, image i that of draws.ids[i].
        """
        if self._input_spec.flip:
            images = hflip(images, draws("flip", 1)[:, 0] < 0.5)
        return self._augment(images, draws)

    def transform_eval(self, images: Tensor) -> Tensor:
        """Normalisation only, for evaluation: (b, h, w, c) uint8 to (b, c, h, w)."""
        if not self._native:
            return normalize(images, self._mean, self._std, self._place.memory_format)
        images = images.contiguous()
        out = self._empty(len(images), *images.shape[1:])
        job = _build_arguments(images, len(images), images.shape[1], images.shape[2])
        self._run(job, out)
        return out

    def _augment(self, images: Tensor, draws: SampleRandom) -> Tensor:
        for name, augmentation in self._input_spec.augment.items():
            images = augmentation(images, draws, name)
        return self.transform_eval(images)

    def _run_crop_kernel(self, images: Tensor, rows: Tensor, draws: SampleRandom, normalise: bool) -> Tensor:
        """Crop, flip and perhaps normalise by the kernel, which draws its own random numbers except for the boxes."""
        input_spec, rule, count = self._input_spec, self._input_spec.crop, len(rows)
        height, width = input_spec.size(images.shape[1], images.shape[2])
        images = images.contiguous()  # already so in a loader; kept alive until the kernel returns
        ids, rows = unique_sample_ids(draws.ids, draws.copies).contiguous(), rows.contiguous()
        job = _build_arguments(images, count, height, width)
        job.rows, job.ids = rows.data_ptr(), ids.data_ptr()
        boxes = None
        if isinstance(rule, PadCrop):
            job.pad, job.flip, name = rule.pad, 3 if input_spec.flip else 0, "crop_and_flip"
        else:
            boxes = rule.boxes(draws, images.shape[1], images.shape[2])
            job.boxes, job.support = boxes.data_ptr(), int(resize.SUPPORT[rule.interpolation])
            job.flip, name = 1 if input_spec.flip else 0, "flip"
        job.key = key64(draws.seed, f"augment.{name}", draws.epoch)
        if normalise:
            out = self._empty(count, height, width, images.shape[3])
            self._run(job, out)
        else:
            out = torch.empty(count, height, width, images.shape[3], dtype=torch.uint8)
            job.out_bytes = out.data_ptr()
            native.run_kernel(job)
        return out

    def _empty(self, count: int, height: int, width: int, channels: int) -> Tensor:
        return torch.empty(count, channels, height, width, memory_format=self._place.memory_format)

    def _run(self, job: native.KernelArguments, out: Tensor) -> None:
        job.scale, job.shift, job.out = self._scale.data_ptr(), self._shift.data_ptr(), out.data_ptr()
        job.channels_last = self._place.memory_format == torch.channels_last
        native.run_kernel(job)


def resized_crop(
    images: Tensor, rows: Tensor, boxes: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> Tensor:
    """resize.resized_crop, by the kernel if there is one: (n, H, W, c) to (b, *size, c) uint8."""
    if not images.is_cpu or images.shape[3] > native.MAX_CHANNELS or native.load_kernels() is None:
        return resize.resized_crop(images, rows, boxes, size, interpolation)
    images, rows, boxes = images.contiguous(), rows.contiguous(), boxes.contiguous()
    out = torch.empty(len(rows), *size, images.shape[3], dtype=torch.uint8)
    job = _build_arguments(images, len(rows), *size)
    job.rows, job.boxes, job.out_bytes = rows.data_ptr(), boxes.data_ptr(), out.data_ptr()
    job.support = int(resize.SUPPORT[interpolation])
    native.run_kernel(job)
    return out


def _build_arguments(images: Tensor, count: int, out_height: int, out_width: int) -> native.KernelArguments:
    """For contiguous images, which the caller keeps alive."""
    _, height, width, channels = images.shape
    return native.KernelArguments(
        images=images.data_ptr(),
        count=count,
        height=height,
        width=width,
        channels=channels,
        out_height=out_height,
        out_width=out_width,
    )


def _pad_crop(images: Tensor, rows: Tensor, draws: SampleRandom, rule: PadCrop, flip: bool) -> Tensor:
    """The reference for the kernel's crop and flip: (b, h, w, c) uint8."""
    out = images[rows]
    if not rule.pad and not flip:
        return out
    drawn = draws("crop_and_flip", 3)
    if rule.pad:
        top, left = rule.offsets(drawn[:, :2]).unbind(1)
        here = torch.arange(len(rows), device=images.device)
        out = crop(pad_images(out, rule.pad), here, top, left, *images.shape[1:3])
    return hflip(out, drawn[:, 2] < 0.5) if flip else out
