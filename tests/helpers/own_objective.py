"""An objective as a user writes one."""

from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress


@schema
class Flat:
    smoothing: float = 0.0

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return model(batch.inputs).square().mean(), {}
