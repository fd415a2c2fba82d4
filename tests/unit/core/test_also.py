"""Further facts about the samples of a batch stay with their samples, wherever a batch goes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.labels import relabel
from paribus.core.progress import Progress
from paribus.methods.update import GradientStep
from paribus.techniques.cutmix import CutMix

N = 8
AT = Progress(3, 10, 0, 5)


def facts_of(ids: Tensor) -> dict[str, Tensor]:
    return {"group": ids % 3, "box": ids[:, None] + torch.arange(4.0)}


def whole() -> Batch:
    places = torch.arange(N)
    ids = 100 + places
    inputs = ids[:, None, None, None].expand(N, 1, 6, 6).float()
    return Batch(inputs, ids % 4, ids, places, N, 4, also=facts_of(ids))


def shared(first: int, last: int) -> Batch:
    """A process's part of that batch, which fetches the others."""

    def make(where: Tensor) -> Batch:
        return replace(whole().peers(where), fetch=make)

    return make(torch.arange(first, last))


def check(batch: Batch) -> None:
    wanted = facts_of(batch.ids)
    assert batch.also.keys() == wanted.keys()
    for name, values in wanted.items():
        assert torch.equal(batch.also[name], values), name


PLACES = torch.tensor([6, 1, 1, 3])
WAYS: dict[str, Callable[[], list[Batch]]] = {
    "peers": lambda: [whole().peers(PLACES)],
    "peers of another process": lambda: [shared(2, 5).peers(PLACES)],
    "split": lambda: list(whole().split(4)),
    "split in one": lambda: list(whole().split(1)),
    "apply": lambda: [whole().apply(lambda batch: replace(batch, inputs=batch.inputs + 1))],
    "peers of an applied batch": lambda: [
        shared(2, 5).apply(lambda batch: replace(batch, inputs=batch.inputs + 1)).peers(PLACES)
    ],
    "CutMix": lambda: [CutMix()(whole(), AT)],
    "parts after CutMix": lambda: list(CutMix()(shared(2, 6), AT).split(2)),
    "relabel": lambda: list(relabel({"val": lambda size: [whole()]}, (3, 2, 1, 0), 4)["val"](N)),
}


@pytest.mark.parametrize("way", WAYS)
def test_facts_stay_with_their_samples(way: str) -> None:
    made = WAYS[way]()
    assert sum(map(len, made)) > 0
    for batch in made:
        check(batch)


def test_negative_control_facts_of_other_samples_are_noticed() -> None:
    batch = whole()
    with pytest.raises(AssertionError, match=r"group"):
        check(replace(batch, also={**batch.also, "group": batch.also["group"].roll(1)}))
    with pytest.raises(AssertionError):
        check(replace(batch, also={}))


def test_the_objective_of_a_step_gets_the_facts_of_its_part() -> None:
    model = torch.nn.Linear(36, 1)
    seen: list[Batch] = []

    def loss(part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        seen.append(part)
        return model(part.inputs.flatten(1)).mean(), {}

    step, optimizer = GradientStep(accumulate=2), torch.optim.SGD(model.parameters(), 0.0)
    step(loss, CutMix()(whole(), AT), model, optimizer, step.scaler(torch.device("cpu")))
    assert [len(part) for part in seen] == [4, 4]
    for part in seen:
        check(part)


def test_a_batch_has_no_facts_unless_it_is_given_some() -> None:
    batch = replace(whole(), also={})
    assert [dict(part.also) for part in (batch.peers(PLACES), *batch.split(2))] == [{}] * 3
