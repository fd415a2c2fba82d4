"""Which tensors of a file go where, what of it is new, and what is refused."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paribus
from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec
from paribus.interop.start_weights import load_start_weights
from paribus.interop.timm_weights import to_timm_state_dict
from paribus.interop.weight_files import Weights


class Net(nn.Module):
    def __init__(self, classes: int, width: int = 8, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, width, 1))
        self.fc = nn.Linear(width, classes)


class Wrapped(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


def loaded(model: nn.Module, tensors: dict[str, Tensor], classes: int, strict: bool = True, **more: Any) -> str:
    data: Any = SimpleNamespace(
        spec=Spec(classes, 3, 8, 8), class_ids=more.pop("data_classes", ()), mean=(0.0,) * 3, std=(1.0,) * 3
    )
    return load_start_weights(model, Weights(tensors, **more), "w.pt", data, strict)


def same(model: nn.Module, tensors: dict[str, Tensor], names: str = "") -> bool:
    own = model.state_dict()
    return all(torch.equal(own[name], value) for name, value in tensors.items() if name.startswith(names))


FRONTS = ["", "module.", "_orig_mod.", "model.", "module.model.", "backbone.net."]


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_names_are_matched_whatever_stands_in_front(front: str, wrapped: bool) -> None:
    there = Net(10, seed=1).state_dict()
    net = Net(10)
    model = Wrapped(net) if wrapped else net
    named = {front + name: value for name, value in there.items()} | {"n_averaged": torch.tensor(3)}
    assert loaded(model, named, 10) == "w.pt: 11 of 11 tensors loaded"
    assert same(net, there)


@pytest.mark.parametrize("number", [1000, 1])
@pytest.mark.parametrize("strict", [True, False])
def test_a_head_of_another_size_keeps_its_initialisation_and_is_said(number: int, strict: bool) -> None:
    there, model = Net(number, seed=1).state_dict(), Net(3)
    before = model.fc.weight.clone()
    count = "1,000 classes" if number == 1000 else "1 class"
    assert (
        loaded(model, there, 3, strict)
        == f"w.pt: 9 of 11 tensors loaded; new head for 3 classes (fc; {count} in the file)"
    )
    assert same(model, there, "body.")
    assert torch.equal(model.fc.weight, before)


def test_a_file_without_a_head_and_a_network_with_two() -> None:
    there = {name: value for name, value in Net(5, seed=1).state_dict().items() if not name.startswith("fc")}
    assert loaded(Net(3), there, 3) == "w.pt: 9 of 11 tensors loaded; new head for 3 classes (fc; none in the file)"
    model = Net(3)
    model.second = nn.Linear(8, 3)
    both = {**Net(5, seed=1).state_dict(), "second.weight": torch.ones(5, 8), "second.bias": torch.ones(5)}
    line = loaded(model, both, 3)
    assert line == "w.pt: 9 of 13 tensors loaded; new head for 3 classes (fc, second; 5 classes in the file)"


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"body.2.bias": None}, "1 missing: body.2.bias"),
    "left over": ({"extra.weight": torch.ones(1)}, "1 not in the network: extra.weight"),
    "another shape": (
        {"body.2.weight": torch.ones(8, 4, 1, 1)},
        r"1 of another shape: body.2.weight \(8, 4, 1, 1\) in the file, \(8, 8, 1, 1\) in the network",
    ),
    # of a head under another name it cannot be told that it is one
    "another head": (
        {"fc.weight": None, "fc.bias": None, "head.weight": torch.ones(3, 8), "head.bias": torch.ones(3)},
        "2 missing: fc.weight, fc.bias; 2 not in the network: head.weight, head.bias",
    ),
    "a head with other features": (
        {"fc.weight": torch.ones(3, 9)},
        r"1 of another shape: fc.weight \(3, 9\) in the file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISFITS)
def test_anything_else_is_refused_with_its_names_or_left_out_on_request(kind: str) -> None:
    change, message = MISFITS[kind]
    there: Any = {**Net(3, seed=1).state_dict(), **change}
    there = {name: value for name, value in there.items() if value is not None}
    with pytest.raises(
        ConfigError, match=f"^init_from: w.pt does not fit model: {message}.*init_strict=false loads what"
    ):
        loaded(Net(3), there, 3)
    model, before = Net(3), Net(3).state_dict()
    with_names = loaded(model, there, 3, strict=False)
    for part in message.replace("\\", "").split("; "):
        assert part in with_names
    fitting = {n: t for n, t in there.items() if n in before and before[n].shape == t.shape}
    assert same(model, fitting)
    assert same(model, {n: t for n, t in before.items() if n not in fitting})


@pytest.mark.parametrize("strict", [True, False])
def test_weights_of_another_network_are_refused_either_way(strict: bool) -> None:
    with pytest.raises(
        ConfigError,
        match=r"10 missing: .*; 1 not in the network: stem.weight; nothing of it fits: is it of another network",
    ):
        loaded(Net(3), {"stem.weight": torch.ones(3)}, 3, strict)


def test_as_many_outputs_as_classes_elsewhere_are_no_head() -> None:
    """A network of another width, whose first convolution happens to have as many outputs as there are classes."""
    with pytest.raises(ConfigError, match="of another shape: body"):
        loaded(Net(8, width=8), Net(5, width=4, seed=1).state_dict(), 8)


def test_statistics_that_old_files_lack_are_not_missed() -> None:
    there = {n: t for n, t in Net(3, seed=1).state_dict().items() if not n.endswith("num_batches_tracked")}
    for strict in (True, False):
        assert loaded(Net(3), there, 3, strict) == "w.pt: 10 of 11 tensors loaded"


@pytest.mark.parametrize("make", ["rexnet", "pit"])
def test_timms_names_in_our_networks(make: str) -> None:
    def network(classes: int) -> nn.Module:
        if make == "pit":
            return paribus.pit("ti", 64, num_classes=classes)
        return paribus.rexnet(width=0.5, num_classes=classes)

    torch.manual_seed(1)
    there, model = network(7), network(3)
    line = loaded(model, {f"module.{n}": t for n, t in to_timm_state_dict(there).items()}, 3)
    n = len(there.state_dict())
    assert line.startswith(f"w.pt: {n - 2} of {n} tensors loaded; new head for 3 classes (classifier")
    body = {name: value for name, value in there.state_dict().items() if not name.startswith("classifier")}
    assert same(model, body)
    assert loaded(network(7), dict(there.state_dict()), 7) == f"w.pt: {n} of {n} tensors loaded"


def test_a_head_of_other_classes_of_the_same_number_is_taken_and_said() -> None:
    there = Net(2, seed=1).state_dict()
    model = Net(2)
    assert "others than the data's" in loaded(model, there, 2, class_ids=("a", "b"), data_classes=("b", "a"))
    assert same(model, there)
    for classes in ({"class_ids": ("a", "b"), "data_classes": ("a", "b")}, {"class_ids": ("a", "b")}):
        assert "classes" not in loaded(model, there, 2, **classes)
