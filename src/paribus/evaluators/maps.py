"""Class activation maps at the size of the input, for evaluators that ask where a network looks."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.capabilities import Explained, class_activation_maps, in_eval_mode
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext

Of = Literal["predicted", "true"]


def normalise_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, h, w) resized bilinearly to (n, *size), then each from its least to its greatest value, 0 to 1. A map that is
    the same everywhere becomes 0."""
    maps = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    least, most = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - least) / torch.where(most > least, most - least, 1.0)


def make_maps(model: nn.Module, batch: Batch, of: Of) -> Explained:
    """Scores (n, classes), and the maps of the predicted or the true class as `normalise_maps` gives them for the size
    of the inputs. A batch may be empty."""
    n, _, h, w = batch.inputs.shape
    if not n:
        return Explained(batch.inputs.new_zeros(0, batch.classes), torch.zeros(0, h, w, device=batch.inputs.device))
    scores, maps = class_activation_maps(model, batch.inputs, batch.targets if of == "true" else None)
    return Explained(scores, normalise_maps(maps.float(), (h, w)))


def check_maps(method: Any, context: EvaluationContext, key: str) -> None:
    """Raises ConfigError if no map can be made of the network: it is shown a black image. key: of who asks."""
    spec, place, model = context.spec, context.place, method.eval_model
    image = torch.zeros(1, spec.channels, spec.height, spec.width, dtype=place.dtype, device=place.device)
    try:
        with in_eval_mode(model):
            class_activation_maps(model, image)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}; {key}=null leaves the evaluator out") from error
