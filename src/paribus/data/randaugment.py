"""RandAugment: a few random operations on each training image, of random strength.

Cubuk, Zoph, Shlens & Le, NeurIPS 2020, arXiv 1909.13719, with the operations, scales and extras of timm's
auto_augment.py: that is what the recipes of DeiT, PiT and ReXNet mean by rand-m9-mstd0.5 (with or without -inc1).
torchvision's RandAugment differs: other scales, and every operation is applied.
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.data.ops import color, native
from paribus.data.ops.affine import affine_transform, rotation_matrices
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.fused import choose_kernel
from paribus.data.ops.input_spec import Interpolation
from paribus.data.ops.transfer import change_where, to_device

OPERATIONS = (
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "color", "contrast",
    "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip
_INDEX = {name: i for i, name in enumerate(OPERATIONS)}
_TABLE_OPERATIONS = (
    "autocontrast",
    "equalize",
    "invert",
    "posterize",
    "solarize",
    "solarize_add",
    "contrast",
    "brightness",
)
_AFFINE_OPERATIONS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_OPERATION_CODES = [
    native.OPERATION_CODES["affine" if name in _AFFINE_OPERATIONS else {"color": "saturation"}.get(name, name)]
    for name in OPERATIONS
]
_MAX_MAGNITUDE = 10.0  # magnitudes are divided by it
Level = Annotated[int, Field(ge=0, le=255)]


@schema
class RandAugment:
    """timm's `rand-m{magnitude}-n{ops}-mstd{std}-p{prob}-inc{increasing}`.

    ops: number of operations per image, each drawn from the 15. magnitude: 0..10; for each operation it is drawn from a
    normal distribution with this mean and the standard deviation std, clipped to 0..10. std: of the magnitude.
    interpolation: of moved images. prob: the probability that an operation is applied. increasing: posterize, solarize,
    colour, contrast, brightness and sharpness change more with a greater magnitude, not less. fill: red, green, blue of
    pixels that a moved image leaves empty.
    Alpha, a fourth channel, is moved with the colours, 0 where it leaves pixels empty, and otherwise stays.
    """

    ops: Annotated[int, Field(ge=0)] = 2
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    std: Annotated[float, Field(ge=0)] = 0.0
    increasing: bool = False
    prob: Annotated[float, Field(ge=0, le=1)] = 0.5
    interpolation: Interpolation = "bicubic"
    fill: tuple[Level, Level, Level] = (124, 116, 104)  # ImageNet's mean

    def __call__(self, images: Tensor, draws: SampleRandom, name: str) -> Tensor:
        for turn in range(self.ops):
            which, level, sign = self.sample_parameters(draws, name, turn)
            images = self.apply_operation(images, which, level, sign)
        return images

    def sample_parameters(self, draws: SampleRandom, name: str, turn: int) -> tuple[Tensor, Tensor, Tensor]:
        """For one of the `ops` turns, (b,) each: the operation's index in OPERATIONS, or −1 for none; its magnitude as
        a fraction of 10, float64; and +1 or −1, float64, for operations with a direction. They are beside the ids."""
        u = draws.beside_ids(f"{name}.{turn}", 4).double()
        which = torch.where(u[:, 1] > self.prob, -1, (u[:, 0] * len(OPERATIONS)).long())
        noise = torch.special.ndtri(u[:, 2] + 2.0**-25)  # never at 0 or 1
        level = (self.magnitude + self.std * noise).clamp(0, _MAX_MAGNITUDE) / _MAX_MAGNITUDE
        return which, level, torch.where(u[:, 3] > 0.5, -1.0, 1.0)

    def apply_operation(self, images: Tensor, which: Tensor, level: Tensor, sign: Tensor) -> Tensor:
        """One operation on each image; arguments as `sample_parameters` returns them."""
        if images.shape[3] == 4:
            moves = torch.where(_is_any_of(which, _AFFINE_OPERATIONS), which, -1)
            alpha = replace(self, fill=(0, 0, 0)).apply_operation(images[..., 3:].contiguous(), moves, level, sign)
            return torch.cat((self.apply_operation(images[..., :3].contiguous(), which, level, sign), alpha), 3)
        number, matrix = (
            self._operation_arguments(which, level, sign),
            self._affine_matrices(which, level * sign, *images.shape[1:3]),
        )
        fill = self.fill if images.shape[3] > 1 else (round(sum(self.fill) / 3),)
        if (kernel := choose_kernel(images)) is not None:
            moved = _is_any_of(which, _AFFINE_OPERATIONS)
            arguments = torch.where(moved[:, None], matrix, torch.nn.functional.pad(number[:, None], (0, 5)))
            (codes,) = to_device(which.device, torch.tensor([*_OPERATION_CODES, 0]))  # the last is for −1
            return kernel(images, codes[which][:, None], arguments[:, None], fill, self.interpolation == "bicubic")
        factor = number.float()
        out = change_where(images, _is_any_of(which, _TABLE_OPERATIONS), (which, number), _apply_table_operations)
        out = change_where(out, _is_any_of(which, ("color",)), (factor,), color.saturation)
        out = change_where(out, _is_any_of(which, ("sharpness",)), (factor,), color.sharpness)
        return change_where(
            out,
            _is_any_of(which, _AFFINE_OPERATIONS),
            (matrix,),
            lambda x, m: affine_transform(x, m, fill, self.interpolation),
        )

    def _operation_arguments(self, which: Tensor, level: Tensor, sign: Tensor) -> Tensor:
        """(b,) float64: the factor, bits to keep, threshold or summand of operations that have one."""
        bits, threshold, factor = (level * 4).trunc(), (level * 256).trunc(), level * 1.8 + 0.1
        if self.increasing:
            bits, threshold = 4 - bits, 256 - threshold
            factor = (1.0 + sign * (level * 0.9)).clamp(min=0.1)
        made = {"posterize": bits, "solarize": threshold, "solarize_add": (level * 110).trunc()}
        number = factor
        for name, other in made.items():
            number = torch.where(which == _INDEX[name], other, number)
        return number

    def _affine_matrices(self, which: Tensor, amount: Tensor, height: int, width: int) -> Tensor:
        """(b, 6) float64 of operations that move pixels. amount: −1..1."""
        one, none = torch.ones_like(amount), torch.zeros_like(amount)

        def matrix(m1: Tensor = none, m2: Tensor = none, m3: Tensor = none, m5: Tensor = none) -> Tensor:
            return torch.stack((one, m1, m2, m3, one, m5), 1)

        made = {
            "rotate": rotation_matrices(amount * 30.0, height, width),
            "shear_x": matrix(m1=amount * 0.3),
            "shear_y": matrix(m3=amount * 0.3),
            "translate_x": matrix(m2=amount * 0.45 * width),
            "translate_y": matrix(m5=amount * 0.45 * height),
        }
        chosen = matrix()
        for name, other in made.items():
            chosen = torch.where((which == _INDEX[name])[:, None], other, chosen)
        return chosen


def _is_any_of(which: Tensor, names: tuple[str, ...]) -> Tensor:
    return torch.stack([which == _INDEX[name] for name in names]).any(0)


def _apply_table_operations(images: Tensor, which: Tensor, number: Tensor) -> Tensor:
    """Operations that replace each grey level by another."""
    counts = color.histograms(images)
    levels = torch.arange(256, device=images.device)
    whole = number.long()[:, None, None]
    dropped_bits = 8 - whole.clamp(0, 8)
    as_bytes = levels.to(torch.uint8).expand_as(counts)
    made = {
        "autocontrast": color.autocontrast_tables(counts),
        "equalize": color.equalize_tables(counts),
        "invert": 255 - levels,
        "posterize": (levels >> dropped_bits) << dropped_bits,
        "solarize": torch.where(levels < whole, levels, 255 - levels),
        "solarize_add": torch.where(levels < 128, (levels + whole).clamp(max=255), levels),
        "contrast": color.blend(color.mean_grey(images)[..., 0], as_bytes, number.float()),
        "brightness": color.blend(as_bytes.new_zeros(1), as_bytes, number.float()),
    }
    table = levels.expand_as(counts)
    for name, other in made.items():
        table = torch.where((which == _INDEX[name])[:, None, None], other, table)
    return color.apply_tables(images, table.to(torch.uint8))
