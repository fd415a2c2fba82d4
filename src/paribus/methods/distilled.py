"""Hard distillation: a network with two classifiers learns the labels with one and a teacher's choices with the other.

Touvron, Cord, Douze, Massa, Sablayrolles & Jégou, "Training data-efficient image transformers & distillation through
attention", ICML 2021, arXiv 2012.12877, equation 3; Heo et al. 2021 (PiT, arXiv 2103.16302) train so as well.

    L = ½ CE(ψ(Z_s), y) + ½ CE(ψ(Z_d), y_t)        y_t = argmax_c Z_t(c)

Z_s and Z_d are the logits of the student's first and second classifier, Z_t the teacher's, ψ the softmax. The first
term is the recipe's own objective, with its label smoothing and mixed targets; y_t is one class, never smoothed. The
teacher sees the student's inputs as they are, mixed and erased. Predictions are the mean of both classifiers' logits,
as in the authors' code; the paper speaks of the sum of their softmax outputs.

The teacher is in evaluation mode, has no gradients, is in no checkpoint and is not exported. A checkpoint holds its
checksum, so that no run resumes with another teacher. A step cannot do without it, so its file has to stay until the
last one; `paribus eval` and `paribus export` do not need it.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import matches_signature, schema
from paribus.core.content import Checksum, read_checked
from paribus.core.errors import ConfigError, explain_exception, explain_misfit
from paribus.core.labels import match_classes, read_class_ids
from paribus.core.meta import to_meta
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ModelFactory, Objective, ParameterGroup, Slots
from paribus.methods.evaluated import PlainNetwork
from paribus.methods.supervised import SupervisedTraining
from paribus.methods.trained import Trained


def hard_distillation(label_loss: Tensor, second: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 3. label_loss: the first cross entropy, a scalar. second, teacher: (n, classes) logits. Returns L and
    the second cross entropy, both scalars."""
    teacher_loss = F.cross_entropy(second, teacher.argmax(1))
    return 0.5 * label_loss + 0.5 * teacher_loss, teacher_loss


class FixedOutput(nn.Module):
    """Stands in for a network whose output is known already, so that any objective can be applied to one classifier."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, inputs: Tensor) -> Tensor:
        return self.output


class DistillationObjective:
    """The recipe's objective for the first classifier, the teacher's choice for the second.

    order: for each class of the data, the teacher's output for it; None: they are in the same order.
    """

    def __init__(self, objective: Objective, teacher: nn.Module, order: Tensor | None = None) -> None:
        self._objective = objective
        self._teacher = teacher
        self._order = order

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            teacher_logits = self._teacher(batch.inputs)
            if self._order is not None:
                teacher_logits = teacher_logits[:, self._order]
        first, second = model(batch.inputs)
        label_loss, metrics = self._objective(FixedOutput(first), batch, at)
        loss, teacher_loss = hard_distillation(label_loss, second, teacher_logits)
        return loss, {**metrics, "train/loss_labels": label_loss, "train/loss_teacher": teacher_loss}


class DistilledTraining:
    """Supervised training of the student under both objectives; see the top of the file."""

    def __init__(
        self, slots: Slots, workshop: BuildContext, teacher: nn.Module | None, order: Tensor | None = None
    ) -> None:
        """teacher: None where no step is taken. order: of its outputs, for each class of the data."""
        self._checksum = None if teacher is None else hash_weights(teacher)
        objective = slots.objective if teacher is None else DistillationObjective(slots.objective, teacher, order)
        self._student = SupervisedTraining(replace(slots, objective=objective), workshop)
        check_classifiers(self._student.model, workshop)

    @property
    def model(self) -> nn.Module:
        return self._student.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._student.optimizer

    @property
    def groups(self) -> list[ParameterGroup]:
        return self._student.groups

    def parts(self) -> dict[str, Trained]:
        return self._student.parts()

    def parameters(self) -> Iterable[nn.Parameter]:
        return self._student.parameters()

    @property
    def eval_model(self) -> nn.Module:
        return self._student.eval_model

    @property
    def without_ema(self) -> PlainNetwork | None:
        return self._student.without_ema

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]:
        return self._student.train_step(batch, at)

    def prepare_eval(self) -> None:
        self._student.prepare_eval()

    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes): the mean of both classifiers' logits, which the network itself gives."""
        return self._student.predict(inputs)

    def state_dict(self) -> dict[str, Any]:
        return {**self._student.state_dict(), "teacher": self._checksum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ConfigError if the state was made under another teacher."""
        if self._checksum not in (None, state.get("teacher")):
            raise ConfigError(
                f"method.teacher: the checkpoint was made with the teacher {str(state.get('teacher'))[:12]}, this one "
                f"is {str(self._checksum)[:12]}; put its weights back, or start a run of another name"
            )
        self._student.load_state_dict({key: value for key, value in state.items() if key != "teacher"})


@schema
class Distilled:
    """teacher: makes the network (paribus.models.timm_adapter.TimmPretrained, paribus.models.exported.Exported, or any
    model).

    weights: a .safetensors with the state dict of that network; null where `teacher` brings its own. weights_sha256:
    of that file, filled in when the recipe is composed. The classes of an export are matched with the data's by name.
    Inputs reach the teacher normalised with the data's mean and std, so they should be those it was trained with.
    """

    teacher: Annotated[ModelFactory, matches_signature(ModelFactory)]
    weights: str | None = None
    weights_sha256: Checksum = None

    def __call__(self, slots: Slots, workshop: BuildContext) -> DistilledTraining:
        if not workshop.trains:
            return DistilledTraining(slots, workshop, None)
        try:
            teacher = workshop.make(self.teacher, "teacher")
            if self.weights is not None:
                load_weights(teacher, self.weights, self.weights_sha256)
        except ConfigError as error:
            raise ConfigError(f"{error} (every step asks the teacher, also after a resume)") from error
        class_ids = getattr(teacher, "class_ids", ()) if self.weights is None else _read_exported_classes(self.weights)
        teacher = teacher.eval().requires_grad_(False)
        check_teacher(teacher, workshop)
        return DistilledTraining(slots, workshop, teacher, match_teacher(class_ids, workshop))


def _read_exported_classes(file: str) -> tuple[str, ...]:
    """Ids of the classes of an export, by the .json beside its weights; () where there is none, or none in it."""
    try:
        return read_class_ids(json.loads(Path(file).expanduser().with_suffix(".json").read_text())) or ()
    except (OSError, ValueError, TypeError, AttributeError):  # other weights, with another file beside them or none
        return ()


def match_teacher(class_ids: tuple[str, ...], workshop: BuildContext) -> Tensor | None:
    """For each class of the data, the teacher's output for it; None if they are in the same order. Raises ConfigError
    if the teacher knows other classes. class_ids: the teacher's, () unknown."""
    ours = workshop.class_ids
    if class_ids and ours and class_ids != ours:
        order = match_classes(ours, class_ids, "method.teacher: the student's data", "the teacher")
        return torch.tensor(order, device=workshop.place.device)
    if ours and not class_ids and workshop.place.rank == 0:
        print(
            "warning: method.teacher: the names of its classes are not known; its outputs are taken to be in the order "
            "of the data's classes, unchecked",
            file=sys.stderr,
        )
    return None


def load_weights(model: nn.Module, file: str, checksum: str | None = None) -> None:
    """Raises ConfigError if the file cannot be read, is damaged, is another, or is of another network."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        model.load_state_dict(load(read_checked(Path(file).expanduser(), checksum)))
    except OSError as error:
        raise ConfigError(f"method.weights: {file}: {error.strerror}; it should be a .safetensors file") from error
    except SafetensorError as error:
        raise ConfigError(f"method.weights: {file} is no sound .safetensors file: {error}") from error
    except RuntimeError as error:
        raise ConfigError(f"method.weights: {file} does not fit method.teacher: {explain_misfit(error)}") from error


def hash_weights(model: nn.Module) -> str:
    """sha256 of names, shapes, types and values, whatever the layout in memory."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        digest.update(repr((name, tuple(value.shape), str(value.dtype))).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_teacher(teacher: nn.Module, workshop: BuildContext) -> None:
    """Raises ConfigError unless it gives one (n, classes) tensor for images of this data."""
    spec = workshop.spec
    found = _output_shapes(teacher, workshop, "method.teacher")
    if found not in (None, [(2, spec.classes)]):
        raise ConfigError(
            f"method.teacher: it gives {found} for two images of {spec.channels}×{spec.height}×{spec.width}; the data "
            f"has {spec.classes} classes, so it should give [(2, {spec.classes})]"
        )


def check_classifiers(student: nn.Module, workshop: BuildContext) -> None:
    """Raises ConfigError unless the student gives two (n, classes) tensors in training."""
    found = _output_shapes(student.train(), workshop, "model")
    if found not in (None, [(2, workshop.spec.classes)] * 2):
        raise ConfigError(
            "model: method=distilled needs a network that gives the logits of two classifiers in training, as "
            f"model=pit model.distilled=pair does; this one gives {found} for two images"
        )


def _output_shapes(model: nn.Module, workshop: BuildContext, path: str) -> list[tuple[int, ...]] | None:
    """The shapes of what a network gives for two images, from its copy on the meta device; None if it cannot run
    without values."""
    spec, dtype = workshop.spec, workshop.place.dtype
    try:
        with torch.no_grad():
            outputs = to_meta(model)(torch.empty(2, spec.channels, spec.height, spec.width, dtype=dtype, device="meta"))
    except NotImplementedError:  # an operation that the meta device does not know
        return None
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{path}: it does not take images of {spec.channels}×{spec.height}×{spec.width}: {explain_exception(error)}"
        ) from error
    return [tuple(part.shape) for part in (outputs if isinstance(outputs, tuple | list) else (outputs,))]
