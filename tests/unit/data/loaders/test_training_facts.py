"""Facts about samples reach training batches, on whichever process and in whichever block the batch is made."""

import pytest
import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.loaders.subset import combine_strata, hide_groups
from paribus.data.ops.input_spec import InputSpec, PadCrop
from paribus.data.synthetic import Synthetic
from paribus.engine.world import World
from paribus.recipe.build import build_method, make_device_context
from paribus.recipe.smoke import build_small

SPEC = InputSpec((0.5,), (0.5,), PadCrop(pad=0), False, {}, 1, False)
N = 40


def images(**also: Tensor) -> Images:
    return Images(torch.zeros(N, 4, 4, 1, dtype=torch.uint8), torch.arange(N) % 4, 100 + torch.arange(N), also=also)


def place(rank: int = 0, world: int = 1) -> DeviceContext:
    return DeviceContext(torch.device("cpu"), rank=rank, world=world)


def is_of_its_samples(batch: Batch) -> bool:
    return bool((batch.also["group"] == 7 * (batch.ids - 100)).all())


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 2), (1, 2)])
def test_each_sample_has_its_own_fact(rank: int, world: int) -> None:
    """One process makes several batches in a block; two make one at a time, and fetch each other's."""
    data = build_in_memory_sets("x", images(group=7 * torch.arange(N)), images(), 4, SPEC, place(rank, world), None, 0)
    loader = data.loader(8, 3)
    for step in (0, 4, 6):
        batch = loader.batch(step)
        assert is_of_its_samples(batch)
        assert is_of_its_samples(batch.peers(torch.tensor([7, 0, 3])))
        for part in batch.split(2):
            assert is_of_its_samples(part)
    assert data.facts["train"] == ("group",)


def test_negative_control_a_fact_of_another_sample_is_seen() -> None:
    data = build_in_memory_sets("x", images(group=7 * torch.arange(N).flip(0)), images(), 4, SPEC, place(), None, 0)
    assert not is_of_its_samples(data.loader(8, 3).batch(0))


def test_a_box_is_no_fact_of_a_training_batch_which_is_cropped() -> None:
    boxes = torch.ones(N, 4)
    data = build_in_memory_sets(
        "x", images(box=boxes, group=torch.arange(N)), images(box=boxes), 4, SPEC, place(), None, 0
    )
    assert set(data.loader(8, 0).batch(0).also) == {"group"}
    assert set(next(iter(data.splits["val"](8))).also) == {"box"}


def test_what_a_step_is_given_is_in_the_checksum_and_without_facts_it_is_the_old_one() -> None:
    def checksum(**also: Tensor) -> str:
        return build_in_memory_sets("x", images(**also), images(), 4, SPEC, place(), None, 0).checksum

    plain, groups = checksum(), torch.arange(N) % 2
    assert checksum(box=torch.ones(N, 4)) == plain
    assert len({plain, checksum(group=groups), checksum(group=1 - groups), checksum(bias=groups)}) == 4


def test_subsets_keep_the_groups_of_each_class_in_proportion() -> None:
    targets, groups = torch.arange(400) % 2, (torch.arange(400) % 20 < 4).long()
    all_images = Images(
        torch.zeros(400, 4, 4, 1, dtype=torch.uint8), targets, torch.arange(400), also={"group": groups}
    )
    data = build_in_memory_sets(
        "x", all_images, images(), 2, SPEC, place(), None, 100, strata=combine_strata(targets, groups)
    )
    held_out = next(iter(data.splits["minival"](100)))
    cells = (2 * held_out.targets + held_out.also["group"]).bincount(minlength=4)
    assert cells.tolist() == [40, 10, 40, 10]


def test_a_smaller_share_of_known_groups_lies_inside_a_larger_one() -> None:
    targets, groups = torch.arange(400) % 2, torch.arange(400) // 2 % 4
    few, many = (hide_groups(groups, targets, share, "x") for share in (0.1, 0.5))
    assert ((few == -1) | (few == many)).all()
    assert [(few != -1).sum().item(), (many != -1).sum().item()] == [40, 200]
    assert (many[many != -1] == groups[many != -1]).all()
    assert (hide_groups(groups, targets, 0.0, "x") == -1).all()


def test_synthetic_groups_are_seen_in_the_pixels_and_without_groups_the_images_are_as_before() -> None:
    data = Synthetic(classes=2, n=200, val_n=200, groups=2, noise=5.0, flip=False, pad=0)(place())
    batch = next(iter(data.splits["val"](200)))
    means = batch.inputs.mean((1, 2, 3))
    of_class = batch.targets == 0
    apart = [means[of_class & (batch.also["group"] == g)].mean() for g in (0, 1)]
    assert abs(apart[0] - apart[1]) > 0.05
    assert not Synthetic(n=64, val_n=64)(place()).loader(32, 0).batch(0).also


@pytest.mark.parametrize("technique", ["rebias", "rubi"])
def test_a_batch_in_parts_is_refused_where_samples_are_coupled(technique: str) -> None:
    recipe = build_small(("experiment=smoke", "update.accumulate=2"), (technique,))
    context = make_device_context(recipe, torch.device("cpu"), World())
    with pytest.raises(ConfigError, match=r"update.accumulate: found 2; .* takes a batch whole"):
        build_method(recipe, recipe.data(context), context)
