"""ReLabel against torchvision's RoIAlign and straight-line accounts: pooling, order, unstored classes, one step."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from helpers.written_steps import PLAIN_SGD, RATE
from paribus.conformance.trainings import workbench
from paribus.core.batch import Batch
from paribus.core.label_maps import densify, keep_top
from paribus.core.progress import Progress
from paribus.recipe.build import build_loader, build_transforms
from paribus.recipe.smoke import build_small
from paribus.techniques.relabel import MapLabels, Where, axis_weights, move, pool


def seeded(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(sum(k * 1000**i for i, k in enumerate(key)))


def draw_boxes(n: int) -> Tensor:
    """(n, 4) x1, y1, x2, y2 in 0..1, from slivers to the whole."""
    ends = torch.rand(n, 2, 2, dtype=torch.float64, generator=seeded(1)).sort(1).values
    ends[: n // 5, 1] = ends[: n // 5, 0] + 0.03 * (1 - ends[: n // 5, 0])  # less than a cell
    boxes = torch.cat((ends[:, 0], ends[:, 1]), 1)
    boxes[-1] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    return boxes


def by_torchvision(dense: Tensor, boxes: Tensor) -> Tensor:
    """Each image's own box, in units of cells, half a cell up and to the left, as the authors call it."""
    h, w = dense.shape[2:]
    rois = boxes * torch.tensor([w, h, w, h]) - 0.5
    numbered = torch.cat((torch.arange(len(boxes))[:, None].double(), rois), 1)
    return roi_align(dense, numbered, (1, 1), aligned=False)[:, :, 0, 0]


@pytest.mark.parametrize("grid", [(15, 15), (7, 7), (4, 9), (1, 1)], ids=str)
def test_the_pooled_label_is_torchvisions_roi_align(grid: tuple[int, int]) -> None:
    dense = torch.randn(320, 3, *grid, dtype=torch.float64, generator=seeded(2, *grid))
    boxes = draw_boxes(320)
    assert float((pool(dense, boxes) - by_torchvision(dense, boxes)).abs().max()) < 1e-13


def test_negative_control_a_box_half_a_cell_off_is_seen() -> None:
    dense, boxes = torch.randn(320, 3, 15, 15, dtype=torch.float64, generator=seeded(3)), draw_boxes(320)
    off = pool(dense, (boxes + 0.5 / 15).clamp(0, 1))
    assert float((off - by_torchvision(dense, boxes)).abs().max()) > 0.1


def test_the_whole_image_is_the_mean_over_all_cells_and_weights_sum_to_one() -> None:
    dense = torch.randn(2, 3, 5, 8, dtype=torch.float64, generator=seeded(4))
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64).expand(2, 4)
    assert torch.allclose(pool(dense, whole), dense.mean((2, 3)), rtol=1e-14)
    boxes = draw_boxes(300)
    assert torch.allclose(axis_weights(boxes[:, 0], boxes[:, 2], 9).sum(1), torch.ones(300, dtype=torch.float64))


def test_a_crop_into_padding_is_pooled_over_its_part_inside() -> None:
    dense = torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=seeded(5)) + 7
    beyond = torch.tensor([[-0.25, 0.0, 0.75, 1.0]], dtype=torch.float64)
    inside = torch.tensor([[0.0, 0.0, 0.75, 1.0]], dtype=torch.float64)
    assert torch.equal(pool(dense, beyond), pool(dense, inside))
    # RoIAlign counts points beyond the border as logits of 0, which for a crop of black padding is a dilution
    assert float((by_torchvision(dense, beyond) - pool(dense, inside)).abs().max()) > 0.5


def corner_maps() -> Tensor:
    """(1, 4, 8, 8): each quarter of the image is of its own class, at a logit of 8."""
    quarter = torch.zeros(8, 8, dtype=torch.int64)
    quarter[:4, 4:], quarter[4:, :4], quarter[4:, 4:] = 1, 2, 3
    return 8.0 * F.one_hot(quarter, 4).permute(2, 0, 1)[None].double()


TOP_RIGHT = torch.tensor([[0.6, 0.1, 0.9, 0.4]], dtype=torch.float64)  # x1, y1, x2, y2


def test_a_crop_of_the_top_right_quarter_has_its_class() -> None:
    assert float(pool(corner_maps(), TOP_RIGHT).softmax(1)[0, 1]) > 0.99


def test_negative_control_the_authors_order_gives_the_quarter_across_the_diagonal() -> None:
    """(top, left, bottom, right) handed to what reads (x1, y1, x2, y2)."""
    label = pool(corner_maps(), TOP_RIGHT[:, [1, 0, 3, 2]]).softmax(1)[0]
    assert float(label[1]) < 0.01
    assert float(label[2]) > 0.99


def label_maps(
    n: int, top: int, unstored: str = "rest", classes: int = 6, where: Where = "local"
) -> tuple[MapLabels, Tensor]:
    dense = 3 * torch.randn(n, classes, 4, 4, dtype=torch.float64, generator=seeded(6, n))
    values, indices, rest = keep_top(dense, top)
    fill = rest.double() if unstored == "rest" and rest is not None else 0.0
    return MapLabels(torch.arange(n), values.double(), indices, fill, classes, where), dense


def batch_of(ids: list[int], boxes: Tensor, classes: int = 6) -> Batch:
    n, inputs = len(ids), torch.zeros(len(ids), 1, 2, 2, dtype=torch.float64)
    zeros = torch.zeros(n, dtype=torch.int64)
    return Batch(inputs, zeros, torch.tensor(ids), torch.arange(n), n, classes, also={"crop": boxes})


def test_each_sample_has_its_own_map_and_crop_in_batches_of_any_size() -> None:
    """The authors' code squeezes a batch of one image to no batch at all."""
    transform, dense = label_maps(5, top=6)
    boxes, ids = draw_boxes(3), [4, 0, 2]
    whole = transform(batch_of(ids, boxes), Progress(0, 1, 0))
    expected = by_torchvision(dense.float().double()[ids], boxes).softmax(1)
    assert torch.allclose(whole.targets, expected, rtol=1e-12)
    for k, i in enumerate(ids):
        one = transform(batch_of([i], boxes[k : k + 1]), Progress(0, 1, 0))
        assert one.targets.shape == (1, 6)
        assert torch.allclose(one.targets[0], expected[k], rtol=1e-12)


def test_a_further_copy_of_a_sample_has_its_map() -> None:
    from paribus.core.batch import COPY_OFFSET

    transform, _ = label_maps(5, top=6)
    box = draw_boxes(1)
    once, again = (transform(batch_of([i], box), Progress(0, 1, 0)).targets for i in (3, 3 + 2 * COPY_OFFSET))
    assert torch.equal(once, again)


def test_global_takes_the_mean_over_the_image_whatever_the_crop() -> None:
    transform, dense = label_maps(5, top=6, where="global")
    got = transform(batch_of([1, 2], draw_boxes(2)), Progress(0, 1, 0)).targets
    assert torch.allclose(got, dense.float().double()[[1, 2]].mean((2, 3)).softmax(1), rtol=1e-12)


def test_elsewhere_takes_a_part_of_the_crops_size_anywhere_in_the_image() -> None:
    crops = draw_boxes(4000)
    moved = move(crops, torch.rand(4000, 2, generator=seeded(9)))
    assert torch.allclose(moved[:, 2:] - moved[:, :2], crops[:, 2:] - crops[:, :2], atol=1e-12)
    assert 0 <= float(moved.min()) < float(moved.max()) <= 1 + 1e-12
    across = torch.stack((moved[:800, 0], crops[:800, 0]))
    assert abs(float(torch.corrcoef(across)[0, 1])) < 0.1, "slivers go anywhere"
    transform, _ = label_maps(5, top=6, where="elsewhere")
    batch = batch_of([1, 2], draw_boxes(2))
    one, again, other = (transform(batch, Progress(0, 9, seed, 1)).targets for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    local = label_maps(5, top=6)[0](batch, Progress(0, 9, 0, 1)).targets
    assert float((one - local).abs().max()) > 0.01


@pytest.mark.parametrize("top", [1, 3, 6])
def test_what_is_stored_of_a_cell_gives_back_its_probabilities(top: int) -> None:
    """Of the stored classes exactly, of the others together."""
    dense = torch.randn(7, 6, 3, 2, dtype=torch.float64, generator=seeded(8)).float().double()
    values, indices, rest = keep_top(dense, top)
    again = densify(values.double(), indices, 0.0 if rest is None else rest.double(), 6)
    kept = torch.zeros_like(dense, dtype=torch.bool).scatter_(1, indices.long(), True)
    assert torch.allclose(again.softmax(1)[kept], dense.softmax(1)[kept], rtol=1e-5)
    assert torch.equal(values[:, 0], dense.amax(1).float())


def dilution(unstored: str) -> float:
    """What is left of the probability .99 of a class, at a logit of 5 with 1,000 classes and 5 of them stored."""
    others = 5 - torch.tensor(99.0 * 999).log()  # so that it is .99
    dense = torch.full((1, 1000, 1, 1), float(others), dtype=torch.float64)
    dense[0, 17] = 5.0
    values, indices, rest = keep_top(dense, 5)
    assert rest is not None
    filled = densify(values.double(), indices, rest.double() if unstored == "rest" else 0.0, 1000)
    return float(filled.softmax(1)[0, 17])


def test_unstored_classes_do_not_dilute_a_label() -> None:
    assert dilution("rest") == pytest.approx(0.99, abs=1e-6)


def test_negative_control_unstored_classes_at_the_logit_zero_do() -> None:
    assert dilution("zero") == pytest.approx(0.13, abs=0.005)


def transformed(*techniques: str) -> tuple[Batch, Batch, list[Batch]]:
    """The first batch, and what each transform made of it in turn."""
    recipe = build_small(("experiment=smoke", "update.precision=fp64"), techniques)
    data, _, place = workbench(recipe)
    batch = build_loader(recipe, data, place).batch(0)
    after = [batch]
    for transform in build_transforms(recipe, data, place).values():
        after.append(transform(after[-1], Progress(0, 60, 0, 16)))
    return batch, after[-1], after[1:-1]


@pytest.mark.parametrize("order", [("relabel", "cutmix"), ("cutmix", "relabel")], ids="+".join)
def test_cutmix_mixes_the_pooled_labels_whatever_the_order_they_are_named_in(order: tuple[str, str]) -> None:
    from paribus.techniques.cutmix import CutMix

    batch, mixed, (labelled,) = transformed(*order)
    mix = CutMix().draw(Progress(0, 60, 0, 16), len(batch), *batch.inputs.shape[-2:])
    assert mix is not None
    lam = float(mix.lam)
    assert 0.01 < lam < 0.99
    expected = lam * labelled.targets + (1 - lam) * labelled.targets[mix.partners]
    assert torch.allclose(mixed.targets, expected, rtol=1e-12)
    hard = F.one_hot(batch.targets, batch.classes).double()
    partly = lam * labelled.targets + (1 - lam) * hard[mix.partners]
    assert float((mixed.targets - partly).abs().max()) > 1e-3, "the partners' labels are pooled ones too"


def test_one_step_is_the_one_written_out() -> None:
    assert step_apart((0, 1, 2, 3)) < 1e-11


def test_negative_control_a_step_with_the_authors_order_is_seen() -> None:
    assert step_apart((1, 0, 3, 2)) > 1e-6


def step_apart(order: tuple[int, ...]) -> float:
    """How far a weight is, after one step of plain SGD, from an account with RoIAlign of boxes in this order."""
    recipe = build_small(PLAIN_SGD, ("relabel",))
    data, method, place = workbench(recipe)
    batch = build_loader(recipe, data, place).batch(0)
    model: nn.Module = method.model  # type: ignore[attr-defined]
    (fitted,) = build_transforms(recipe, data, place).values()
    assert isinstance(fitted, MapLabels)
    fill = fitted.fill[batch.ids] if isinstance(fitted.fill, Tensor) else fitted.fill
    dense = densify(fitted.values[batch.ids], fitted.indices[batch.ids], fill, batch.classes)
    boxes = batch.also["crop"].clamp(0, 1)[:, list(order)]
    soft = by_torchvision(dense, boxes).softmax(1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = -(soft * model(batch.inputs).log_softmax(1)).sum(1).mean()
    gradients = dict(zip(before, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    method.train_step(replace(batch), Progress(0, 10, 0))
    after = dict(model.named_parameters())
    return max(float((after[k].detach() - (before[k] - RATE * gradients[k])).abs().max()) for k in before)
