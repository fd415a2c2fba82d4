"""Networks on the meta device: the same shapes, whatever the network, and the network stays as it was."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from helpers.trainings import recipe_of
from paribus.core.errors import ConfigError
from paribus.core.meta import to_meta
from paribus.core.protocols import Spec
from paribus.methods.distilled import check_classifiers, check_teacher
from paribus.recipe.build import check_normalisation

IMAGES = torch.empty(2, 3, 12, 12, device="meta")


@pytest.fixture
def in_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in one of several processes, where SyncBatchNorm wants CUDA tensors."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)


def synced(model: nn.Module) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def network(pair: bool = False) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU())
            self.second = nn.BatchNorm1d(4, momentum=0.2)
            self.head = nn.Linear(4, 10)

        def forward(self, x: torch.Tensor) -> Any:
            x = self.head(self.second(self.second(self.first(x).mean((2, 3)))))
            return (x, x) if pair and self.training else x

    return Net()


def workshop() -> Any:
    return SimpleNamespace(spec=Spec(10, 3, 12, 12), place=SimpleNamespace(dtype=torch.float32))


def test_negative_control_synced_norms_refuse_meta_tensors(in_a_group: None) -> None:
    with pytest.raises(ValueError, match="SyncBatchNorm expected input tensor to be on"):
        copy.deepcopy(synced(network())).to("meta")(IMAGES)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("convert", [lambda model: model, synced], ids=["plain", "synced"])
def test_a_copy_has_the_shapes_and_modes_of_the_network(in_a_group: None, convert: Any, training: bool) -> None:
    model = convert(network()).train(training)
    model.third = model.second
    model.first[1].eval()  # frozen
    before = {name: (value.clone(), value.device) for name, value in model.state_dict().items()}
    meta = to_meta(model)
    assert meta(IMAGES).shape == (2, 10)
    assert [m.training for m in meta.modules()] == [m.training for m in model.modules()]
    assert {n: (v.shape, v.dtype) for n, v in meta.state_dict().items()} == {
        n: (v.shape, v.dtype) for n, v in model.state_dict().items()
    }
    assert all(t.device.type == "meta" for t in meta.state_dict().values())
    assert not any(p.requires_grad for p in meta.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert meta.second is meta.third
    assert all(torch.equal(value, before[name][0]) for name, value in model.state_dict().items())
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in model.modules()) == (2 if convert is synced else 0)


def test_a_network_that_is_one_norm_has_a_copy(in_a_group: None) -> None:
    assert to_meta(synced(nn.BatchNorm2d(3)))(IMAGES).shape == IMAGES.shape


def test_distillation_accepts_synced_norms(in_a_group: None) -> None:
    check_classifiers(synced(network(pair=True)), workshop())
    check_teacher(synced(network()).eval(), workshop())
    with pytest.raises(ConfigError, match="gives the logits of two classifiers"):  # what is wrong is still refused
        check_classifiers(synced(network()), workshop())


@pytest.mark.parametrize(("world", "sync_bn", "refused"), [(1, True, True), (2, True, False), (2, False, True)])
def test_one_image_a_process_is_enough_where_all_processes_share_the_statistics(
    in_a_group: None, world: int, sync_bn: bool, refused: bool
) -> None:
    recipe = recipe_of("experiment=smoke", f"batch_size={world}", f"runtime.sync_bn={str(sync_bn).lower()}")
    net = nn.Sequential(nn.Conv2d(3, 4, 12), nn.BatchNorm2d(4))
    method: Any = SimpleNamespace(model=synced(net) if sync_bn else net)
    data: Any = SimpleNamespace(spec=Spec(10, 3, 12, 12))
    place: Any = SimpleNamespace(world=world, dtype=torch.float32)
    if refused:
        with pytest.raises(ConfigError, match="one value per channel"):
            check_normalisation(recipe, method, data, place)
    else:
        check_normalisation(recipe, method, data, place)
