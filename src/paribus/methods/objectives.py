"""What is minimised. Each objective takes class ids or soft targets, so a transform may mix labels without
any change here."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress


@schema
class CrossEntropy:
    """Softmax cross entropy, mean over samples. smoothing: label smoothing, 0–1 (Szegedy et al. 2016)."""

    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(batch.inputs)
        if logits.dtype.itemsize < 4:  # log-softmax of half precision loses digits for no gain in time
            logits = logits.float()
        return F.cross_entropy(logits, batch.targets, label_smoothing=self.smoothing), {}
