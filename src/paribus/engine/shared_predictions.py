"""One pass of a network over a split, for all evaluators of an evaluation.

Most evaluators begin with what the network predicts for a split as it is. So the first of them that asks for a batch
has it predicted, and those after it, with the same batch size, are given the same numbers again; they need not know.
Inputs are recognised as the very tensor that the split has just given, unchanged since: whatever else is predicted
(noise, occluded or attacked images, batches of another size) is computed. Reading the images is not shared.

The cost is memory, on the device until the evaluation ends: the scores of this rank's share of each split and batch
size, for each network, 4 bytes a class and image (0.4 MB for CIFAR-10's test set, 200 MB for ImageNet's).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.evaluation import Splits
from paribus.core.protocols import Predicts

BatchKey = tuple[str, int, int]  # split, batch size, which of its batches


@dataclass(frozen=True)
class _Given:
    """The inputs of a batch as the split gave them. version: torch raises it when they are changed in place."""

    key: BatchKey
    inputs: Tensor
    version: int


class SharedPredictions:
    """Of one evaluation."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, int], _Given] = {}  # one batch of each iteration: inputs may be large

    def follow(self, splits: Splits) -> Splits:
        """The same splits, whose batches are recognised."""
        return {name: self._follow(name, make) for name, make in splits.items()}

    def share(self, method: Any) -> Any:
        """The same method, whose `predict` computes each batch of a split once."""
        known: dict[BatchKey, Tensor] = {}

        def predict(inputs: Tensor) -> Tensor:
            key = self._find(inputs)
            if key in known:
                return known[key].clone()  # evaluators may change what they are given
            scores = method.predict(inputs)
            if key is not None and not scores.requires_grad:
                known[key] = scores.clone()
            return scores

        return _with_predict(method, predict) if isinstance(method, Predicts) else method

    def _follow(self, split: str, make: Callable[[int], Any]) -> Callable[[int], Iterator[Batch]]:
        def batches(batch_size: int) -> Iterator[Batch]:
            place = (split, batch_size)
            try:
                for index, batch in enumerate(make(batch_size)):
                    if not batch.inputs.is_inference():  # torch counts no changes of such tensors
                        self._newest[place] = _Given((*place, index), batch.inputs, batch.inputs._version)
                    yield batch
            finally:
                self._newest.pop(place, None)

        return batches

    def _find(self, inputs: Tensor) -> BatchKey | None:
        """Which batch these inputs are; None for others."""
        for given in self._newest.values():
            if given.inputs is inputs and given.version == inputs._version:
                return given.key
        return None


def _with_predict(method: Any, predict: Callable[[Tensor], Tensor]) -> Any:
    """An object of the same class with the same attributes, networks among them, but for `predict`. One that cannot be
    made without its own constructor stays as it is."""
    try:
        twin = object.__new__(type(method))
        twin.__dict__.update(vars(method), predict=predict)
    except (TypeError, AttributeError):  # of a built-in type, or with slots
        return method
    return twin
