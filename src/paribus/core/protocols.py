"""The interfaces between the packages. Each is one verb; none has behaviour to inherit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.labels import choose_class_ids
from paribus.core.progress import Progress
from paribus.core.renamed import old_names
from paribus.core.sums import Sums


@dataclass(frozen=True)
class Spec:
    """What a model needs to know about the data. Sizes in pixels."""

    classes: int
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class DeviceContext:
    """Where tensors live and which part of the global batch this process makes. cores: its share of this machine's;
    None: all that it may use."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format
    rank: int = 0
    world: int = 1
    cores: int | None = None


@runtime_checkable
class Loader(Protocol):
    """Training data as a function of the step: `batch(step)` gives the same samples at every call."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batch(self, step: int) -> Batch: ...


@dataclass(frozen=True)
class DataSets:
    """Loaded data: its spec, a training loader, and evaluation splits by name, each a function of the batch size.

    The splits give this rank's share: every sample exactly once over all ranks, no padding.
    checksum: of the training samples and their order. mean, std: what inputs are normalised with, a channel each, in
    units of the 0–1 range. sizes: images of "train" and of each split; part_sizes: of splits that are a part of another
    one, such as some training images, which are not counted on record. names: of the classes, or () where classes are
    known by index alone. class_ids: by which they are matched with another set's (core/labels.py), if not by `names`.
    class_counts: training images of each class; () unknown. undecodable: gives the names of images that could not be
    decoded and are done without, as far as this process has met them by now: those decoded in every step are known only
    at the end, and each rank knows its share. facts: by split, the names of what is known of its samples in
    `Batch.also`; "train" stands for training batches. largest: of those facts of training samples that are whole
    numbers, the largest value. whole: (batch size, pixels a side or None) -> every training sample of this rank's share
    once, uncropped: all of the stored image, resized to a square of that side, or to the inputs' own size; None: this
    data set cannot.
    """

    spec: Spec
    loader: Callable[[int, int], Loader]  # (global batch size, seed) -> Loader
    splits: Mapping[str, Callable[[int], Iterable[Batch]]]
    sizes: Mapping[str, int]
    checksum: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    undecodable: Callable[[], Sequence[str]] = tuple
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    largest: Mapping[str, int] = field(default_factory=dict)
    whole: Callable[[int, int | None], Iterable[Batch]] | None = None
    part_sizes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_ids", choose_class_ids(self.class_ids, self.names))


@runtime_checkable
class DataFactory(Protocol):
    def __call__(self, place: DeviceContext) -> DataSets: ...


@runtime_checkable
class Transform(Protocol):
    """Changes a training batch, on the device. Draws from streams of its own name; never changes a tensor in place."""

    def __call__(self, batch: Batch, at: Progress) -> Batch: ...


@runtime_checkable
class HasPartners(Protocol):
    """Capability of a transform that mixes samples: whom a step will ask for (`Batch.peers`), known before there is a
    batch, so that a loader can have them ready (core/partners.py). Results do not depend on it."""

    def partners(self, at: Progress, n: int) -> Tensor | None:
        """The partner of each sample of a global batch of n, or several: int64 positions on the CPU, (n,) or (n, k);
        None if nobody is asked for."""
        ...


@runtime_checkable
class PreparesPartners(Protocol):
    """Capability of a training loader: `partners(step, positions)` says, before the first batch is made, which further
    positions of a step's global batch the transforms ask for when they are given these (all on the CPU)."""

    def prepare_partners(self, partners: Callable[[int, Tensor], Tensor]) -> None: ...


@runtime_checkable
class ReadsCrop(Protocol):
    """Capability of a transform: whether it reads the crop that was drawn for each sample, `Batch.also["crop"]`."""

    @property
    def reads_crop(self) -> bool: ...


@runtime_checkable
class ReplacesTargets(Protocol):
    """Capability of a transform: whether it gives samples other targets than they came with, so that it has to come
    before what mixes samples."""

    @property
    def replaces_targets(self) -> bool: ...


@runtime_checkable
class ReportsCrop(Protocol):
    """Capability of a training loader: from the first batch on, batches have `also["crop"]` (core/batch.py). Nothing
    else of them changes."""

    def report_crop(self) -> None: ...


@runtime_checkable
class Checks(Protocol):
    """Capability of a slot's object: raises ConfigError if it does not fit this data, before anything is built."""

    def check(self, spec: Spec) -> None: ...


@runtime_checkable
class Objective(Protocol):
    """The loss of a batch (a scalar tensor, mean over samples) and further metrics to log."""

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]: ...


@runtime_checkable
class FitsData(Protocol):
    """Capability of an objective or a transform that depends on the data: its classes, its samples. It may refuse to be
    called itself."""

    def for_data(self, data: DataSets, place: DeviceContext) -> Any:
        """What is called in a step, with its tensors on the device. Raises ConfigError if it does not fit the data."""
        ...


@runtime_checkable
class SharesBatch(Protocol):
    """Capability of an objective whose loss is over pairs of the global batch's samples: matching images and captions
    (methods/matching.py, techniques/pcme.py)."""

    def over_ranks(self, gathered: Callable[[Tensor], Tensor]) -> Objective:
        """What is called in a step. gathered: as in `BuildContext`; every rank has to call it alike, and to compute the
        loss of the global batch."""
        ...


@runtime_checkable
class ModelFactory(Protocol):
    def __call__(self, spec: Spec) -> nn.Module: ...


@runtime_checkable
class StartsFromFile(Protocol):
    """Capability of a model factory whose initial weights come from a file (core/content.py)."""

    def without_file(self) -> ModelFactory:
        """What makes the same network with other initial weights and reads no file, for a run that has begun."""
        ...


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that the optimizer treats alike, with their names in the model."""

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    decays: bool


@runtime_checkable
class OptimizerFactory(Protocol):
    @property
    def decay(self) -> str: ...

    def __call__(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer: ...


@runtime_checkable
class HasDiagnostics(Protocol):
    """Capability of an optimizer: metrics of its last step, as tensors without axes; empty while it is switched off."""

    def diagnostics(self) -> dict[str, Tensor]: ...


@runtime_checkable
class Schedule(Protocol):
    """The factor on the learning rate, a pure function of progress."""

    def __call__(self, at: Progress) -> float: ...


@runtime_checkable
class Update(Protocol):
    """From a loss on (parts of) a batch to updated parameters. One instance serves one run; it keeps no state of its
    own."""

    @property
    def dtype(self) -> torch.dtype: ...

    def scaler(self, device: torch.device) -> torch.amp.GradScaler: ...

    def __call__(
        self,
        loss_of: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]],
        batch: Batch,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> dict[str, Tensor]: ...


@runtime_checkable
class EMAFactory(Protocol):
    """Makes an average of the weights to evaluate with, or None when it is off."""

    def __call__(self, model: nn.Module) -> Any: ...


@dataclass(frozen=True)
class Slots:
    """The places where a technique can be put. What alters the step itself is a Method instead."""

    transforms: tuple[Transform, ...]
    model: ModelFactory
    objective: Objective
    optimizer: OptimizerFactory
    schedule: Schedule
    update: Update
    ema: EMAFactory


@dataclass(frozen=True)
class BuildContext:
    """What a method needs to build its networks: the data's spec, a device context, and functions for building.

    make: (factory, name of its initialisation stream) -> module on the device.
    wrap: that module -> the one whose forward is called in a step (compiled, distributed).
    groups: (module, decay rule) -> the optimizer's parameter groups.
    sync: makes buffers (BatchNorm statistics) equal on all ranks.
    class_ids: of the data, in the order of its labels; () unknown.
    trains: whether steps will be taken; if not, what only a step needs (a teacher) is left out.
    mean, std: inputs are normalised with them, a channel each, in units of the 0–1 range; () unknown.
    total, gathered: for losses that couple the samples of a global batch, which the ranks share: the sum of a tensor
    over ranks, and its rows on all ranks, in the order of the global batch, both with gradients. A loss of the global
    batch that every rank computes in this way has the right gradient once DDP has averaged.
    facts: what `Batch.also` has of training samples, for a method that needs a group; None: not known. largest: the
    largest value of those that are whole numbers, as far as it is known.
    """

    spec: Spec
    place: DeviceContext
    make: Callable[[ModelFactory, str], nn.Module]
    wrap: Callable[[nn.Module], nn.Module]
    groups: Callable[[nn.Module, str], list[ParameterGroup]]
    sync: Callable[[nn.Module], None]
    class_ids: tuple[str, ...] = ()
    trains: bool = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    total: Callable[[Tensor], Tensor] = lambda value: value
    gathered: Callable[[Tensor], Tensor] = lambda value: value
    facts: tuple[str, ...] | None = None
    largest: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class CouplesSamples(Protocol):
    """Capability of a method's or objective's factory: whether the loss of a batch is more than the mean over its
    samples (pairs of them, counts of groups), so that gradients of its parts do not add up to the whole's; or a step
    takes a batch whole for another reason, as one network's step within another's."""

    @property
    def couples_samples(self) -> bool: ...


@runtime_checkable
class Method(Protocol):
    """The one verb the loop calls, and what a checkpoint keeps. Metrics are tensors: a step never waits for the
    device."""

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]: ...

    def prepare_eval(self) -> None: ...  # called before evaluation and before a checkpoint

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Predicts(Protocol):
    """Capability: (n, c, h, w) inputs to (n, classes) float scores, after `prepare_eval`."""

    def predict(self, inputs: Tensor) -> Tensor: ...


@runtime_checkable
class HasEma(Protocol):
    """Capability of a method that may evaluate an average of its weights."""

    @property
    def without_ema(self) -> Predicts | None: ...  # what predicts with the latest weights; None without an average


@runtime_checkable
class HasParameters(Protocol):
    """Capability: the parameters whose gradients a `train_step` leaves behind, for the run's receipt."""

    def parameters(self) -> Iterable[nn.Parameter]: ...


@runtime_checkable
class MethodFactory(Protocol):
    def __call__(self, slots: Slots, workshop: BuildContext) -> Method: ...


@runtime_checkable
class WrapsNetwork(Protocol):
    """Capability of a method's factory whose network is built around that of the recipe's `model`: what makes it, for
    who builds the network without the method, as an export does. model: the recipe's."""

    def network_factory(self, model: ModelFactory) -> ModelFactory: ...


@runtime_checkable
class Evaluator(Protocol):
    """Sums over this rank's share of a split. `splits` maps names to batches for a batch size.

    method: what is evaluated, asked for capabilities such as `Predicts`.
    """

    def __call__(self, method: Any, splits: Mapping[str, Callable[[int], Iterable[Batch]]]) -> Sums: ...


class Tracker(Protocol):
    """Receives values; cannot reach training state, so it cannot change a result."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self, summary: Mapping[str, Any]) -> None: ...


@runtime_checkable
class TrackerFactory(Protocol):
    """Opens a tracker on a run folder, for a run that is at step `start` of `total`."""

    def __call__(self, folder: Path, start: int, total: int) -> Tracker: ...


if not TYPE_CHECKING:
    __getattr__ = old_names(
        __name__,
        {
            "Place": "DeviceContext",
            "Workshop": "BuildContext",
            "Average": "EMAFactory",
            "Diagnoses": "HasDiagnostics",
            "Learns": "HasParameters",
        },
    )
