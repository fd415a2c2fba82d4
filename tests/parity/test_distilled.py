"""Hard distillation against the equation worked out by hand, with a negative control for each way to get it wrong."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.methods.distilled import DistillationObjective
from paribus.methods.objectives import CrossEntropy

AT = Progress(0, 10, 0)
# two samples, three classes
FIRST = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
SECOND = torch.tensor([[0.0, 1.0, 3.0], [1.0, -1.0, 0.0]], dtype=torch.float64)
TEACHER = torch.tensor([[0.1, 0.3, 0.2], [9.0, 8.0, 7.0]], dtype=torch.float64)  # chooses 1, then 0


class Says(nn.Module):
    def __init__(self, *answers: Tensor) -> None:
        super().__init__()
        self.answers = [nn.Parameter(a.clone()) for a in answers]
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.asked.append(x)
        return tuple(self.answers) if len(self.answers) > 1 else self.answers[0]


def minus_log_softmax(logits: list[float], k: int) -> float:
    return math.log(sum(math.exp(z) for z in logits)) - logits[k]


def by_hand(labels: list[list[float]]) -> float:
    """½ mean_i Σ_k y_ik (−log ψ(Z_s)_ik) + ½ mean_i (−log ψ(Z_d)_i,argmax Z_t), in Python numbers."""
    first, second, teacher = FIRST.tolist(), SECOND.tolist(), TEACHER.tolist()
    total = 0.0
    for i, y in enumerate(labels):
        total += 0.5 * sum(w * minus_log_softmax(first[i], k) for k, w in enumerate(y))
        total += 0.5 * minus_log_softmax(second[i], teacher[i].index(max(teacher[i])))
    return total / len(labels)


def ours(targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Says, Says]:
    student, teacher = Says(FIRST, SECOND), Says(TEACHER)
    batch = Batch(torch.zeros(2, 3, 4, 4), targets, torch.arange(2), torch.arange(2), 2, 3)
    loss, _ = DistillationObjective(CrossEntropy(smoothing=smoothing), teacher)(student, batch, AT)
    return loss, student, teacher


def smoothed(y: list[float], smoothing: float) -> list[float]:
    return [(1 - smoothing) * w + smoothing / len(y) for w in y]


HARD, MIXED = [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], [[0.3, 0.0, 0.7], [0.75, 0.25, 0.0]]


def check(loss_of: Callable[[Tensor, float], Tensor]) -> None:
    assert float(loss_of(torch.tensor([2, 0]), 0.0).detach()) == pytest.approx(by_hand(HARD), rel=1e-12)
    mixed = torch.tensor(MIXED, dtype=torch.float64)
    assert float(loss_of(mixed, 0.0).detach()) == pytest.approx(by_hand(MIXED), rel=1e-12)
    # smoothing is the labels' alone: the teacher's choice is never smoothed
    want = by_hand([smoothed(y, 0.1) for y in MIXED])
    assert float(loss_of(mixed, 0.1).detach()) == pytest.approx(want, rel=1e-12)


def test_the_loss_is_equation_3() -> None:
    check(lambda targets, smoothing: ours(targets, smoothing)[0])


def test_its_gradient_is_the_equations_and_the_teacher_has_none() -> None:
    loss, student, teacher = ours(torch.tensor([2, 0]))
    loss.backward()
    for answer, classes in zip(student.answers, ([2, 0], [1, 0]), strict=True):
        want = (answer.detach().softmax(1) - nn.functional.one_hot(torch.tensor(classes), 3)) / 4  # ½ and a mean of two
        assert torch.allclose(answer.grad, want, atol=1e-15)
    assert teacher.answers[0].grad is None


def test_the_teacher_sees_what_the_student_sees() -> None:
    _, student, teacher = ours(torch.tensor([2, 0]))
    assert len(student.asked) == len(teacher.asked) == 1
    assert student.asked[0] is teacher.asked[0]


def heads_swapped(objective, teacher, model, batch):
    second, first = model(batch.inputs)
    return 0.5 * nn.functional.cross_entropy(first, batch.targets) + 0.5 * nn.functional.cross_entropy(
        second, teacher(batch.inputs).argmax(1)
    )


def soft_teacher(objective, teacher, model, batch):
    first, second = model(batch.inputs)
    return 0.5 * nn.functional.cross_entropy(first, batch.targets) + 0.5 * nn.functional.cross_entropy(
        second, teacher(batch.inputs).softmax(1)
    )


def sum_of_both(objective, teacher, model, batch):
    first, second = model(batch.inputs)
    return nn.functional.cross_entropy(first, batch.targets) + nn.functional.cross_entropy(
        second, teacher(batch.inputs).argmax(1)
    )


def smoothed_teacher(objective, teacher, model, batch):
    first, second = model(batch.inputs)
    smooth = objective.smoothing
    return 0.5 * nn.functional.cross_entropy(
        first, batch.targets, label_smoothing=smooth
    ) + 0.5 * nn.functional.cross_entropy(second, teacher(batch.inputs).argmax(1), label_smoothing=smooth)


@pytest.mark.parametrize("broken", [heads_swapped, soft_teacher, sum_of_both, smoothed_teacher])
def test_negative_control_another_loss_is_noticed(broken: Callable[..., Tensor]) -> None:
    def loss_of(targets: Tensor, smoothing: float) -> Tensor:
        batch = Batch(torch.zeros(2, 3, 4, 4), targets, torch.arange(2), torch.arange(2), 2, 3)
        return broken(CrossEntropy(smoothing=smoothing), Says(TEACHER), Says(FIRST, SECOND), batch)

    with pytest.raises(AssertionError):
        check(loss_of)
