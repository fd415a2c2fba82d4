"""From a loss to updated parameters: the one place that zeroes gradients, goes backward, clips and steps."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
LossFunction = Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]


@schema
class GradientStep:
    """accumulate: equal parts of a batch that go forward and backward one after the other, to save memory.

    clip_norm: largest total gradient norm; null for no clipping. precision: fp32, bf16, fp16 or fp64. Of these,
    bf16 and fp16 are by autocast (fp16 with loss scaling, whose overflow check makes the host wait once a step, but for
    runtime.fused with torch's AdamW or SGD), and fp64 is of the whole model, to compare implementations.
    """

    accumulate: Annotated[int, Field(ge=1)] = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and inputs."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Loss scaling for fp16; switched off otherwise, where every call passes straight through."""
        return torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")

    def __call__(
        self,
        loss_of: LossFunction,
        batch: Batch,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> dict[str, Tensor]:
        """One optimizer step on a batch; returns the mean loss and metrics over its parts, still on the device."""
        for group in optimizer.param_groups:  # what optimizer.zero_grad does, without its profiler range
            for parameter in group["params"]:
                parameter.grad = None
        parts = list(batch.split(self.accumulate))
        totals: dict[str, Tensor] = {}
        for i, part in enumerate(parts):
            with _skip_gradient_sync(model) if i < len(parts) - 1 else nullcontext():
                with self._autocast(batch.inputs.device):
                    loss, metrics = loss_of(part)
                scaler.scale(_divide_by_parts(loss, len(parts))).backward()
            for name, value in {"train/loss": loss, **metrics}.items():
                value = _divide_by_parts(value.detach(), len(parts))
                totals[name] = totals[name] + value if name in totals else value
        if self.clip_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        if torch.is_autocast_enabled(batch.inputs.device.type):
            torch.clear_autocast_cache()  # within another's forward, which would go on with the weights of before
        return totals

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.precision not in _HALF:
            return nullcontext()
        return torch.autocast(device.type, dtype=_HALF[self.precision])


def _divide_by_parts(value: Tensor, parts: int) -> Tensor:
    """A part's share of the mean over equal parts. Dividing by 1 would add one operation forward and one backward."""
    return value if parts == 1 else value / parts


def _skip_gradient_sync(model: nn.Module) -> AbstractContextManager[Any]:
    """Ranks exchange gradients once a step, with the last part."""
    no_sync = getattr(model, "no_sync", None)
    return cast(AbstractContextManager[Any], no_sync()) if callable(no_sync) else nullcontext()
