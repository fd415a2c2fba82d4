"""The fair method: weights that reach each sample's gradient alone, known groups that stay as they are, refusals."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.trainings import workbench
from paribus.core.batch import COPY_OFFSET, Batch
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Loader
from paribus.core.streams import stream
from paribus.methods.completion import count_cells, draw_groups
from paribus.methods.fair import FairTraining, check_groups, weigh_gradient
from paribus.methods.fair_learners import LabelBias
from paribus.methods.group_classifier import WithClassifier
from paribus.methods.hsic import gaussian_kernel, unbiased_hsic, unbiased_hsic_within
from paribus.methods.supervised import SupervisedTraining
from paribus.recipe.smoke import build_small

AT = Progress(0, 60, 0, 8)
DROP = "method.completion._target_=paribus.methods.completion.DropUnannotated"
PSEUDO = "method.completion._target_=paribus.methods.group_classifier.PseudoLabels"


def made(*overrides: str) -> tuple[FairTraining | SupervisedTraining, Loader]:
    recipe = build_small(["experiment=smoke_groups", "update.precision=fp64", *overrides])
    data, method, _ = workbench(recipe)
    assert isinstance(method, FairTraining | SupervisedTraining)
    return method, data.loader(recipe.batch_size, recipe.seed)


def after(steps: int, *overrides: str) -> list[Tensor]:
    method, loader = made(*overrides)
    for step in range(steps):
        method.train_step(loader.batch(step), replace(AT, step=step))
    return [p.detach().clone() for p in method.model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one, other, strict=True))


def test_weights_multiply_the_gradients_of_any_objective() -> None:
    scores = torch.randn(6, 4, generator=stream(0, "scores"), dtype=torch.float64, requires_grad=True)
    weights, labels = torch.tensor([0.0, 1, 2, 0.5, 1, 3]).double(), torch.arange(6) % 4
    for loss_of in (F.cross_entropy, lambda s, y: F.binary_cross_entropy_with_logits(s, F.one_hot(y, 4).double())):
        plain = loss_of(scores, labels)
        (expected,) = torch.autograd.grad(plain, scores)
        weighed = loss_of(weigh_gradient(scores, weights), labels)
        (found,) = torch.autograd.grad(weighed, scores)
        assert torch.equal(weighed, plain), "the loss that is told is the unweighted one"
        assert torch.equal(found, expected * weights[:, None])
        assert not torch.equal(found, expected)


@pytest.mark.parametrize("neutral", [("method.learner.rate=0",), ("method=fair_hsic", "method.learner.weight=0")])
def test_without_a_rate_or_a_weight_it_is_the_supervised_method(neutral: tuple[str, ...]) -> None:
    plain = after(18, "method=supervised")
    assert same(after(18, *neutral), plain)
    active = tuple(key.replace("=0", "=10") for key in neutral)
    assert not same(after(18, *active), plain), "negative control"


def test_leaving_out_is_training_on_who_is_annotated() -> None:
    """The gradient of one step is that of a batch of the annotated alone."""
    method, loader = made(DROP)
    batch = loader.batch(0)
    known = batch.also["group"] >= 0
    model = method.model
    assert 0 < int(known.sum()) < len(batch)
    expected = torch.autograd.grad(
        F.cross_entropy(model(batch.inputs[known]), batch.targets[known]), model.parameters()
    )
    everyone = torch.autograd.grad(F.cross_entropy(model(batch.inputs), batch.targets), model.parameters())
    method.train_step(batch, AT)
    found = [p.grad for p in model.parameters()]
    assert all(torch.allclose(f, e, rtol=1e-9) for f, e in zip(found, expected, strict=True))  # type: ignore[arg-type]
    assert not all(torch.allclose(f, e, rtol=1e-3) for f, e in zip(found, everyone, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("completion", ["data.flip=false", DROP, PSEUDO])
def test_what_is_known_is_left_as_it_is(completion: str) -> None:
    method, loader = made(completion)
    assert isinstance(method, FairTraining)
    for step in (0, 3, 50, 60):
        batch = loader.batch(step)
        completed = method._completer.complete(batch, replace(AT, step=step), 1.0)
        known = batch.also["group"] >= 0
        assert torch.equal(completed.groups[known], batch.also["group"][known])
        assert set(completed.groups.tolist()) <= {0, 1}
        assert float(completed.weights.mean()) == pytest.approx(1)


def test_pseudo_labels_begin_when_the_classifier_is_checked() -> None:
    method, loader = made(PSEUDO)
    assert isinstance(method, FairTraining)
    assert isinstance(method._completer, WithClassifier)
    kept = [float(method.train_step(loader.batch(s), replace(AT, step=s))["train/group_kept"]) for s in range(50)]
    assert set(kept[:48]) == {0.0}
    assert kept[48:] == [1.0, 1.0]


@pytest.mark.parametrize(("total", "warned"), [(48, True), (49, False)])
def test_a_run_that_ends_before_an_answer_is_taken_is_warned_of_once(
    total: int, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    method, loader = made(PSEUDO)
    for step in range(2):
        method.train_step(loader.batch(step), replace(AT, step=step, total=total))
    err = capsys.readouterr().err
    assert err.count("every unknown group is drawn") == int(warned)
    assert not warned or "found 5; answers of the group classifier are taken after 6 epochs, and this run has 6" in err


def test_mixed_targets_take_the_mean_of_their_weights() -> None:
    method, _ = made()
    assert isinstance(method, FairTraining)
    learner = method._learner
    assert isinstance(learner, LabelBias)
    learner._right, learner._seen = torch.rand(2, 10, 2, generator=stream(0, "rates")).double() * 9 + 1
    learner.end_round()
    groups, hard = torch.tensor([0, 1, 1]), torch.tensor([3, 3, 7])
    assert torch.allclose(learner.weigh(F.one_hot(hard, 10).double(), groups), learner.weigh(hard, groups))
    mixed = 0.3 * F.one_hot(hard, 10).double() + 0.7 * F.one_hot(hard + 1, 10).double()
    expected = 0.3 * learner.weigh(hard, groups) + 0.7 * learner.weigh(hard + 1, groups)
    assert torch.allclose(learner.weigh(mixed, groups), expected)
    assert not torch.allclose(expected, learner.weigh(hard, groups))


def test_cells_are_counted_without_the_unknown() -> None:
    classes, groups = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([1, -1, 0, 1, 1, 0])
    assert count_cells(classes, groups, (3, 2)).tolist() == [[0, 1], [1, 0], [1, 2]]
    weights = torch.tensor([1, 1, 0, 1, 0, 1])
    assert count_cells(classes, groups, (3, 2), weights).tolist() == [[0, 1], [0, 0], [1, 1]]


def test_copies_of_a_sample_have_its_group() -> None:
    counts, ids = torch.ones(1, 5).double(), torch.arange(200)
    classes = torch.zeros(200, dtype=torch.long)
    drawn = draw_groups(counts, classes, ids, 3)
    assert torch.equal(draw_groups(counts, classes, ids + 2 * COPY_OFFSET, 3), drawn)
    assert not torch.equal(draw_groups(counts, classes, ids + 200, 3), drawn)


def test_the_criterion_within_some_is_that_of_those_alone() -> None:
    x, y = torch.randn(2, 12, 3, generator=stream(0, "within"), dtype=torch.float64)
    members = torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 0, 1])
    k, m = gaussian_kernel(x, 1.0), gaussian_kernel(y, 1.0)
    alone = unbiased_hsic(*(kernel[members > 0][:, members > 0] for kernel in (k, m)))
    assert float(unbiased_hsic_within(k, m, members)) == pytest.approx(float(alone), abs=1e-14)
    assert float(unbiased_hsic(k, m)) != pytest.approx(float(alone), abs=1e-6)
    assert float(unbiased_hsic_within(k, m, torch.ones(12))) == pytest.approx(float(unbiased_hsic(k, m)), abs=1e-14)


def test_data_without_groups_and_groups_that_are_too_many_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs training samples with a group \(Batch.also has nothing, not group\)"):
        made("data.groups=0")
    with pytest.raises(ConfigError, match=r"method.groups: found 2; the data has a group 2.* set method.groups=3"):
        made("data.groups=3")
    bare = Batch(*(torch.zeros(1) for _ in range(4)), 1, 2)
    with pytest.raises(ConfigError, match="method=fair"):
        check_groups(bare, 2)
    check_groups(replace(bare, also={"group": torch.tensor([-1])}), 2)


def test_a_coupled_loss_takes_no_parts() -> None:
    with pytest.raises(ConfigError, match=r"update.accumulate: found 2; Fair takes a batch whole"):
        made("method=fair_hsic", "update.accumulate=2")
    made("update.accumulate=2")
