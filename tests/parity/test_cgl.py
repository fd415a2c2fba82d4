"""CGL, label-bias correction and FairHSIC against accounts written out; and what the authors' code does otherwise.

Jung, Chun & Moon 2022 (arXiv 2111.14581). Each documented defect of their code has a test of the right behaviour.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve
from torch import Tensor

from helpers.trainings import trained, workbench
from paribus.conformance.trainings import make_subject
from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, DeviceContext, Loader, Spec
from paribus.core.streams import stream, uniform
from paribus.methods.completion import draw_groups
from paribus.methods.fair import FairTraining
from paribus.methods.fair_learners import FairHSIC, LabelBiasCorrection, correct_labels, fair_hsic
from paribus.methods.group_classifier import BINS, WithClassifier, count_checked, explain_level, to_bins
from paribus.methods.hsic import gaussian_kernel, unbiased_hsic
from paribus.recipe.smoke import build_small
from paribus.techniques.adamp import AdamP
from paribus.techniques.cgl import choose_level

SHAPE = (3, 2)  # classes, groups


def answers(seed: int, n: int = 400, groups: int = 3) -> tuple[Tensor, Tensor]:
    """Probabilities on the edges of bins, (n, groups), and true groups: the surer, the more often right."""
    g = stream(seed, "answers")
    sure = torch.randint(BINS // groups + 1, BINS + 1, (n,), generator=g).double() / BINS
    guess = torch.randint(0, groups, (n,), generator=g)
    probabilities = ((1 - sure) / (groups - 1))[:, None].expand(n, groups).clone()
    probabilities[torch.arange(n), guess] = sure
    right = torch.rand(n, generator=g, dtype=torch.float64) < sure**2
    return probabilities, torch.where(right, guess, (guess + 1) % groups)


def kept_by_sklearn(probabilities: Tensor, given: Tensor) -> tuple[np.ndarray, float]:
    """The rule as it is told: the point of the ROC curve, of h's largest probability against whether h is right, at
    which most are told right. Which samples it keeps, and its accuracy."""
    score, right = probabilities.amax(1).numpy(), (probabilities.argmax(1) == given).numpy()
    false, true, thresholds = roc_curve(right, score, drop_intermediate=False)
    accuracy = (true * right.sum() + (1 - false) * (~right).sum()) / len(right)
    return score >= thresholds[accuracy.argmax()], float(accuracy.max())


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_is_the_most_accurate_point_of_the_roc_curve(seed: int) -> None:
    probabilities, given = answers(seed)
    histogram = count_checked(probabilities, given, torch.ones(len(given), dtype=torch.bool))
    kept, accuracy = kept_by_sklearn(probabilities, given)
    ours = (to_bins(probabilities) >= choose_level(histogram)).numpy()
    assert (ours == kept).all()
    assert 0.1 < ours.mean() < 0.9, "a threshold that keeps all or nothing compares little"
    right = (probabilities.argmax(1) == given).numpy()
    assert (ours == right).mean() == pytest.approx(accuracy, abs=1e-12)


def test_negative_control_right_and_wrong_answers_turned_round_are_seen() -> None:
    probabilities, given = answers(0)
    histogram = count_checked(probabilities, given, torch.ones(len(given), dtype=torch.bool))
    kept, _ = kept_by_sklearn(probabilities, given)
    for broken in (histogram.flip(0), histogram.flip(1)):
        assert ((to_bins(probabilities) >= choose_level(broken)).numpy() != kept).any()


def test_who_is_not_checked_has_no_say_in_the_threshold() -> None:
    probabilities, given = answers(1)
    checked = torch.arange(len(given)) % 3 == 0
    some = count_checked(probabilities[checked], given[checked], checked[checked])
    assert torch.equal(count_checked(probabilities, given, checked), some)


def test_thresholds_at_the_ends() -> None:
    none = torch.zeros(2, BINS, dtype=torch.float64)
    assert int(choose_level(none)) == BINS, "without a checked sample nothing is kept"
    wrong, right = none.clone(), none.clone()
    wrong[0, [500, 900]] = 3
    right[1, [500, 900]] = 3
    assert int(choose_level(wrong)) == BINS
    assert int(choose_level(right)) == 500


def method_of(*overrides: str, techniques: tuple[str, ...] = ("cgl",)) -> tuple[FairTraining, Loader]:
    recipe = build_small(["experiment=smoke_groups", *overrides], techniques)
    data, method, _ = workbench(recipe)
    assert isinstance(method, FairTraining)
    return method, data.loader(recipe.batch_size, recipe.seed)


def completer_of(method: FairTraining) -> WithClassifier:
    assert isinstance(method._completer, WithClassifier)
    return method._completer


def steps(
    method: FairTraining, loader: Loader, first: int, last: int, look: Callable[[int], None] | None = None
) -> None:
    for step in range(first, last):
        method.train_step(loader.batch(step), Progress(step, 60, 0, loader.steps_per_epoch))
        if look is not None:
            look(step)


def expected_groups(method: FairTraining, batch: Batch, tau: float, counts: np.ndarray) -> list[int]:
    """One sample after the other, as the rule is told."""
    h = method.parts()["groups"].network.eval()
    with torch.no_grad():
        probabilities = h(batch.inputs).softmax(1).double().numpy()
    drawn = uniform(0, "fair.groups", 0, batch.ids, 1)[:, 0].numpy()
    groups = []
    for i, given in enumerate(batch.also["group"].tolist()):
        p, label = probabilities[i], int(batch.targets[i])
        share_of_0 = counts[label, 0] / counts[label].sum()
        guess = int(p.argmax()) if np.floor(p.max() * BINS) / BINS >= tau else int(drawn[i] >= share_of_0)
        groups.append(given if given >= 0 else guess)
    return groups


def test_groups_are_given_kept_or_drawn_one_by_one() -> None:
    method, loader = method_of("method.completion.threshold=0.56")
    counts = np.zeros((10, 2))
    spe = loader.steps_per_epoch
    for step in range(spe):  # the annotated samples of the first epoch
        batch = loader.batch(step)
        for label, group in zip(batch.targets.tolist(), batch.also["group"].tolist(), strict=True):
            counts[label, group] += group >= 0
    steps(method, loader, 0, 2 * spe + 1)
    differ = {name: 0 for name in ("rule", "all kept", "none kept")}
    kept = 0.0
    for step in range(2 * spe + 1, 3 * spe):
        batch, at = loader.batch(step), Progress(step, 60, 0, spe)
        completed = completer_of(method).complete(batch, at, 1.0)
        tau = float(completed.metrics["train/tau"])
        kept += float(completed.metrics["train/group_kept"]) / (spe - 1)
        for name, threshold in (("rule", tau), ("all kept", 0.0), ("none kept", 1.1)):
            differ[name] += completed.groups.tolist() != expected_groups(method, batch, threshold, counts)
    assert differ["rule"] == 0
    assert differ["all kept"] > 0, "negative control: pseudo-labels are something else"
    assert differ["none kept"] > 0, "negative control: so are drawn groups"
    assert 0 < kept < 1


def observed(rounds: int, rate: float) -> tuple[Tensor, np.ndarray]:
    """Weights after rounds of made-up predictions, ours and those of a straight-line account in NumPy."""
    method, _ = method_of(f"method.learner.rate={rate}", "data.classes=3", techniques=())
    learner = method._learner
    multipliers = np.zeros(SHAPE)
    for k in range(rounds):
        right, seen = np.zeros(SHAPE), np.zeros(SHAPE)
        for part in range(3):
            g = stream(0, "observed", k, part)
            scores = torch.randn(50, 3, generator=g, dtype=torch.float64)
            classes, groups, kept = (torch.randint(0, top, (50,), generator=g) for top in (3, 2, 4))
            scores[torch.arange(50), classes] += 1.5 * groups  # group 1 is recognised more often
            learner.observe(scores, classes, groups, kept)
            for i in range(50):
                if kept[i] > 0:
                    seen[classes[i], groups[i]] += 1
                    right[classes[i], groups[i]] += int(scores[i].argmax() == classes[i])
        learner.end_round()
        for y in range(SHAPE[0]):
            for g in range(SHAPE[1]):
                multipliers[y, g] -= rate * (right[y, g] / seen[y, g] - right[y].sum() / seen[y].sum())
    weights = np.zeros(SHAPE)
    for g in range(SHAPE[1]):
        e = np.exp(multipliers[:, g])
        weights[:, g] = SHAPE[0] * e / e.sum()
    ours = learner.weigh(torch.arange(3).repeat(2), torch.tensor([0, 0, 0, 1, 1, 1]))
    return ours.double().view(2, 3).T, weights


def test_label_bias_correction_is_the_one_written_out() -> None:
    ours, written = observed(4, 1.0)
    assert np.abs(ours.numpy() - written).max() < 1e-6  # given in the precision of training
    assert np.abs(written - 1).max() > 0.05, "something has to be corrected"
    _, other = observed(4, 0.5)
    assert np.abs(ours.numpy() - other).max() > 1e-3, "negative control: another rate is seen"


def test_rates_of_the_official_defaults_do_nothing_and_ours_do() -> None:
    """η = 0.001 for 10 rounds leaves every weight where it was, at 0.5 of two classes or 1 here."""
    theirs, ours = (correct_labels(torch.tensor([[-0.1, 0.1], [0.1, -0.1]]).double() * 10 * rate) for rate in (1e-3, 1))
    assert (theirs / 2 - 0.5).abs().max() <= 1e-3
    assert (ours / 2 - 0.5).abs().max() > 0.3
    assert LabelBiasCorrection().rate == 1.0


def hsic_by_quadruples(k: np.ndarray, m: np.ndarray) -> float:
    """The U-statistic: the mean over ordered quadruples of different samples."""
    n = len(k)
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(n), 4)]
    return float(np.mean(terms))


def penalty_written_out(x: np.ndarray, groups: np.ndarray, classes: np.ndarray, kept: np.ndarray) -> float:
    total = 0.0
    for y in range(SHAPE[0]):
        members = [i for i in range(len(x)) if classes[i] == y and kept[i] > 0]
        if len(members) < 4:
            continue
        k = np.array([[np.exp(-((x[i] - x[j]) ** 2).sum() / (2 * 0.7**2)) for j in members] for i in members])
        m = np.array([[float(groups[i] == groups[j]) for j in members] for i in members])
        total += hsic_by_quadruples(k, m)
    return total / SHAPE[0]


def test_fair_hsic_is_the_one_written_out() -> None:
    g = stream(1, "hsic")
    x = torch.randn(17, 4, generator=g, dtype=torch.float64)
    classes = torch.tensor([0] * 7 + [1] * 7 + [2] * 3)
    groups = torch.randint(0, 2, (17,), generator=g)
    x[groups == 1] += 2
    kept = torch.ones(17)
    kept[[2, 9]] = 0
    written = penalty_written_out(*(t.numpy() for t in (x, groups, classes, kept)))
    ours = float(fair_hsic(x, groups, classes, kept, SHAPE, 0.7))
    assert ours == pytest.approx(written, abs=1e-12)
    assert abs(written) > 1e-3
    for broken in (torch.ones(17), kept.roll(1)):
        assert float(fair_hsic(x, groups, classes, broken, SHAPE, 0.7)) != pytest.approx(written, abs=1e-6)
    whole = unbiased_hsic(gaussian_kernel(x, 0.7), (groups[:, None] == groups).double())
    assert float(whole) != pytest.approx(written, abs=1e-6), "negative control: classes count"


def test_a_class_with_fewer_than_four_samples_is_no_nan() -> None:
    for n in range(5):
        x = torch.randn(6, 3, generator=stream(n, "few"), dtype=torch.float64, requires_grad=True)
        classes = torch.tensor([0] * n + [1] * (6 - n))
        value = fair_hsic(x, torch.tensor([0, 1] * 3), classes, torch.ones(6), (2, 2), None)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(x.grad).all()  # type: ignore[arg-type]
        assert bool(value != 0) == (max(n, 6 - n) >= 4)


def test_adamp_trains_both_networks() -> None:
    """Their option takes `Adam` before it looks for `AdamP`."""
    subject = make_subject(("cgl", "adamp"))
    _, method, _ = workbench(subject.recipe())
    parts = method.parts()  # type: ignore[attr-defined]
    assert set(parts) == {"", "groups"}
    assert all(type(part.optimizer) is AdamP for part in parts.values())
    _, plain, _ = workbench(make_subject(("cgl",)).recipe())
    assert not any(isinstance(part.optimizer, AdamP) for part in plain.parts().values())  # type: ignore[attr-defined]


def test_looking_at_test_images_changes_no_step() -> None:
    """Their learning rate follows the loss on the test set."""
    method, loader = method_of()
    again, _ = method_of()
    other, _ = method_of("optimizer.lr=0.011")

    def look(step: int) -> None:
        again.prepare_eval()
        again.predict(loader.batch(step).inputs)

    for one, watch in ((method, None), (again, look), (other, None)):
        steps(one, loader, 0, 20, watch)
    same, apart = (
        all(torch.equal(p, q) for p, q in zip(method.parameters(), m.parameters(), strict=True)) for m in (again, other)
    )
    assert same
    assert not apart, "negative control"


def test_a_threshold_that_keeps_all_or_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    histogram = torch.zeros(2, BINS, dtype=torch.float64)
    assert "raise data.annotated" in explain_level(histogram, BINS)
    histogram[1, 300:] = 1
    assert "pseudo-labels" in explain_level(histogram, 300)
    assert "drawn groups" in explain_level(histogram, BINS)
    assert explain_level(histogram, 600) == ""
    for right, told in ((1, 1), (0, 1), (None, 0)):
        method, loader = method_of()
        spe = loader.steps_per_epoch
        steps(method, loader, 0, 2 * spe)
        if right is not None:  # every answer was right, or wrong
            completer_of(method)._histogram = torch.zeros(2, BINS).double().index_fill_(0, torch.tensor([right]), 1.0)
        steps(method, loader, 2 * spe, 2 * spe + 1)
        method.prepare_eval()
        method.prepare_eval()
        assert capsys.readouterr().err.count("warning: method.completion: τ = ") == told


def test_draws_follow_the_shares_of_the_class() -> None:
    counts = torch.tensor([[30.0, 10.0, 0.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]]).double()
    ids = torch.arange(60_000)
    classes = ids % 3
    drawn = draw_groups(counts, classes, ids, 0)
    shares = torch.stack([drawn[classes == k].bincount(minlength=3) for k in range(3)]) / 20_000
    expected = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]])
    assert (shares - expected).abs().max() < 0.015
    assert (shares - expected.roll(1, 0)).abs().max() > 0.2, "negative control"
    some = torch.tensor([7, 4001, 59_999])
    assert torch.equal(draw_groups(counts, classes[some], ids[some], 0), drawn[some]), "whatever else is in the batch"
    assert not torch.equal(draw_groups(counts, classes, ids, 1), drawn)


def test_penalties_of_the_method_are_those_of_the_batch() -> None:
    learner = FairHSIC(weight=3.0, sigma=0.7).make(workshop_like(), 2)
    g = stream(5, "batch")
    x, classes, groups = torch.randn(20, 4, generator=g), torch.arange(20) % 3, torch.randint(0, 2, (20,), generator=g)
    found = learner.penalise(x, classes, groups, torch.ones(20))
    assert found is not None
    assert float(found) == pytest.approx(3 * float(fair_hsic(x, groups, classes, torch.ones(20), SHAPE, 0.7)), rel=1e-5)


def workshop_like() -> BuildContext:
    unused: Any = None
    return BuildContext(Spec(3, 1, 1, 1), DeviceContext(torch.device("cpu")), unused, unused, unused, unused)


def test_a_resting_classifier_learns_no_more() -> None:
    method, loader = method_of()
    h = method.parts()["groups"].network
    steps(method, loader, 0, loader.steps_per_epoch)
    trained = [p.clone() for p in h.parameters()]
    before = method_of()[0].parts()["groups"].network.parameters()
    assert not any(torch.equal(p, q) for p, q in zip(trained, before, strict=True) if p.ndim > 1)
    steps(method, loader, loader.steps_per_epoch, 3 * loader.steps_per_epoch)
    assert all(torch.equal(p, q) for p, q in zip(trained, h.parameters(), strict=True))


def test_the_classifier_never_sees_who_is_checked_or_unknown() -> None:
    """Other groups of the checked, and other inputs of the unknown, leave its weights as they are."""
    runs = []
    for change in ("nothing", "checked", "learned"):
        method, loader = method_of()
        for step in range(4):
            batch, at = loader.batch(step), Progress(step, 60, 0, loader.steps_per_epoch)
            checked = completer_of(method)._is_checked(batch, at)
            turned = checked if change == "checked" else ~checked if change == "learned" else checked & ~checked
            group = torch.where(turned & (batch.also["group"] >= 0), 1 - batch.also["group"], batch.also["group"])
            method.train_step(replace(batch, also={"group": group}), at)
        runs.append(torch.cat([p.flatten() for p in method.parts()["groups"].network.parameters()]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2]), "negative control"


def test_dropout_of_the_compared_network_is_not_the_classifiers_business(tmp_path: Path) -> None:
    """The classifier goes first in a step. With threshold 1 none of its answers is taken, so the run is the drawn
    one's, masks included."""
    smoke = ("experiment=smoke_groups", "steps=4ba", "model.dropout=0.2", "method.completion.group_epochs=1")
    cgl = trained(tmp_path / "cgl", *smoke, "method.completion.threshold=1.0", techniques=("cgl",))
    drawn = trained(tmp_path / "drawn", *smoke[:3], "method=fair")
    weights = {name: w for name, w in cgl.weights.items() if not name.startswith("groups.")}
    assert weights.keys() == drawn.weights.keys()
    assert all(torch.equal(w, drawn.weights[name]) for name, w in weights.items())
    assert torch.equal(torch.rand(3, generator=stream(0, "a")), torch.rand(3, generator=stream(0, "a")))
