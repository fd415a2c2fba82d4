"""What an evaluator is: the forms it may have, what it is told, and what it hands back.

An evaluator is a frozen dataclass that is called with a trained method and the data's splits, and returns sums over
this rank's share (core/sums.py). All else is optional, and asked for by the names below:

    at: When          "always" (the default): at each evaluation; "end": once, after the last step
    keys              the names of its metrics, against which a study's plan is checked
    needs             capabilities that a method must have, such as `Predicts`; checked before a step is taken
    needed_splits     splits that its other keys name, which the data must have (`NeedsSplits`); those that `splits`
                      lists need not be told
    check_method      raises ConfigError where a network does not fit, before a step is taken
    check_data        raises ConfigError where the data has not what is asked for, before a step is taken
    derived           metrics that are no means, from the sums over all ranks (`Derives`)
    details           curves, tables and pictures for evaluation.json and reports (`HasDetails`)

Results must not depend on the batch size, nor on how many processes share the splits: count integers, add float64,
and gather what only means something for the split as a whole (`gather_samples`). Draws are functions of the sample's
id (core/streams.py) and of the evaluator's own `seed`, never of the run's: every network is shown the same inputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast, runtime_checkable

from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.pixels import to_inputs, to_pixels
from paribus.core.protocols import DataSets, DeviceContext, Evaluator, Spec
from paribus.core.sums import Sums

When = Literal["always", "end"]
Splits = Mapping[str, Callable[[int], Iterable[Batch]]]


def _same(value: Tensor) -> Tensor:
    """What gathers where there is one process."""
    return value


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluator may know besides the method and the splits.

    spec: of the data. place: this rank's device. mean, std: inputs are normalised with them, a channel each, in units
    of the 0–1 range. names: of the classes, () unknown. class_ids: as in `DataSets`. sizes: images of each split, over
    all ranks, of which each has the next share, n · rank // world to n · (rank + 1) // world. gather: (n, …) of each
    process to (N, …) of all, in the order of ranks, where one input is made of several; every rank must call it alike.
    """

    spec: Spec
    place: DeviceContext
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    gather: Callable[[Tensor], Tensor] = _same

    def to_pixels(self, inputs: Tensor) -> Tensor:
        """Normalised inputs (n, c, h, w) as pixels, 0 to 1."""
        return to_pixels(inputs, self.mean, self.std)

    def to_inputs(self, pixels: Tensor) -> Tensor:
        """Pixels (n, c, h, w), 0 to 1, as normalised inputs."""
        return to_inputs(pixels, self.mean, self.std)


def make_context(data: DataSets, place: DeviceContext) -> EvaluationContext:
    sizes = {**data.part_sizes, **data.sizes}
    return EvaluationContext(data.spec, place, data.mean, data.std, data.names, data.class_ids, sizes)


@runtime_checkable
class EvaluatorInContext(Protocol):
    """An evaluator that is told more than an `Evaluator`."""

    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums: ...


@runtime_checkable
class Derives(Protocol):
    """Capability of an evaluator: metrics that are no means of samples. sums: its own, over all ranks. A metric that
    has no value, such as the accuracy of a class without images, is left out."""

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]: ...


@runtime_checkable
class HasDetails(Protocol):
    """Capability of an evaluator: what a report draws or says, as JSON: name -> {"curve": …}, {"reliability": …},
    {"matrix": …}, {"image": …} or {"text": …} (study/analysis/details.py)."""

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]: ...


@runtime_checkable
class NeedsSplits(Protocol):
    """Capability of an evaluator: the splits that the data must have, by the config key that names each. Where the
    class takes null for a key, an evaluator with null does without that split."""

    @property
    def needed_splits(self) -> Mapping[str, str]: ...


@runtime_checkable
class ChecksMethod(Protocol):
    """Capability of an evaluator: raises ConfigError where the method's network does not fit."""

    def check_method(self, method: Any, context: EvaluationContext) -> None: ...


@runtime_checkable
class ChecksData(Protocol):
    """Capability of an evaluator: raises ConfigError where a split, or a fact about its samples, is missing."""

    def check_data(self, data: DataSets) -> None: ...


@dataclass(frozen=True)
class Findings:
    """Of an evaluation. metrics: one number a name. details: by the evaluator's name, what `HasDetails` gave."""

    metrics: dict[str, float]
    details: dict[str, dict[str, Any]] = field(default_factory=dict)


def call_evaluator(evaluator: Any, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
    """Its sums over this rank's share. Evaluators with and without a context are called alike."""
    if len(inspect.signature(evaluator).parameters) > 2:
        return cast(EvaluatorInContext, evaluator)(method, splits, context)
    return cast(Evaluator, evaluator)(method, splits)
