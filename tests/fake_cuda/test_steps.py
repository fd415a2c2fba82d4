"""One real step of every recipe for a GPU with every technique that fits it, on fake CUDA tensors: after the first step
the host never waits, no operation mixes devices, and nothing costs more than the table says.

ceilings.json is that table; `python tests/fake_cuda/write_table.py --write` writes it anew.
"""

import pytest

from fake_cuda.cases import FAST_PAIRS, SETTINGS, all_cases, gpu_recipes, parse
from fake_cuda.hooks import why_not_here
from fake_cuda.steps import measure, on_fake_cuda
from fake_cuda.table import PAGE, exceeded, lowered, read_ceilings, same_torch, to_costs, with_table
from paribus.recipe.configs import list_options
from paribus.recipe.overlays import BASELINE

CASES = list(read_ceilings()["cases"])
FAST = FAST_PAIRS | {str(case) for case in SETTINGS}

needs_fake_cuda = pytest.mark.skipif(why_not_here() is not None, reason=str(why_not_here()))


def _marked(text: str) -> object:
    return pytest.param(text, id=text, marks=() if text in FAST else pytest.mark.slow)


@needs_fake_cuda
@pytest.mark.parametrize("text", [_marked(text) for text in CASES])
def test_a_step_never_waits_and_costs_no_more_than_the_table_says(text: str) -> None:
    ceilings = read_ceilings()
    counts = measure(parse(text))
    costs = to_costs(counts)
    for line in lowered(costs, ceilings["cases"][text]):
        print(f"hint: {line}; python tests/fake_cuda/write_table.py --write")
    assert exceeded(costs, ceilings["cases"][text], same_torch(ceilings)) == []
    found = {part: list(counts[part].waits) for part in ("batch", "step")}
    if "precision=fp16" in text and "fused=true" not in text:  # asks once a step whether a gradient overflowed
        (asks,) = found["step"]
        assert "methods/update.py" in asks
        found["step"] = []
    assert found == {"batch": [], "step": []}


@needs_fake_cuda
def test_no_step_of_cgl_waits_when_the_group_classifier_rests_or_is_asked() -> None:
    with on_fake_cuda(parse("smoke_groups cgl method.completion.group_epochs=1 data.n=64")) as bench:
        batch = bench.loader.batch(0)
        bench.method.train_step(batch, bench.at(0))
        with bench.device.count() as count:
            for step in range(1, 7):  # two in each epoch: it learns, it is checked, it is asked
                metrics = bench.method.train_step(batch, bench.at(step))
    assert bench.loader.steps_per_epoch == 2
    assert list(count.waits) == []
    assert "train/tau" in metrics


@needs_fake_cuda
def test_the_first_batch_of_an_epoch_waits_for_its_order_alone() -> None:
    with on_fake_cuda(parse("cifar10_resnet18 baseline")) as bench:
        last = bench.loader.steps_per_epoch - 1
        bench.loader.batch(last - 1)
        with bench.device.count() as count:
            bench.loader.batch(last)  # which prefetches the first of the next epoch
    assert len(count.waits) <= 3  # rows, ids, targets
    assert all("data/loaders/in_memory.py" in wait.split(" < ")[0] for wait in count.waits)


def test_every_recipe_for_a_gpu_and_every_technique_that_fits_is_in_the_table() -> None:
    assert [str(case) for case in all_cases()] == CASES, "python tests/fake_cuda/write_table.py --write"


def test_ci_tries_each_recipe_and_each_technique() -> None:
    assert set(CASES) >= FAST
    fast = [parse(text) for text in FAST]
    smoke = {f"smoke_{kind}" for kind in ("groups", "captions", "images", "translation")}
    assert {case.recipe for case in fast} == {*gpu_recipes(), *smoke}
    assert {name for case in fast for name in case.techniques} == set(list_options("technique")) - {BASELINE}


def test_the_page_shows_the_table() -> None:
    page = PAGE.read_text()
    assert with_table(page, read_ceilings()) == page, "python tests/fake_cuda/write_table.py --write"
