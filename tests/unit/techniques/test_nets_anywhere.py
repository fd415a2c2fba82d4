"""ReXNet and PiT outside our loop: compiled, exported, under torch.func, in other layouts, precisions and sizes."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import paribus
from paribus.core.streams import stream

NETS: dict[str, Callable[[], nn.Module]] = {
    "rexnet": lambda: paribus.rexnet(0.5, 0.5, num_classes=7, strides=32),
    "rexnet, multiples of 8": lambda: paribus.rexnet(0.5, 0.5, num_classes=7, strides=32, divisor=8),
    "rexnet-lite": lambda: paribus.rexnet(0.5, 0.5, num_classes=7, strides=32, lite=True),
    "pit": lambda: paribus.pit("ti", (32, 48), num_classes=7),
    "pit, distilled": lambda: paribus.pit("ti", (32, 48), num_classes=7, distilled=True),
    "pit, average": lambda: paribus.pit("ti", (32, 48), num_classes=7, global_pool="avg"),
}
each = pytest.mark.parametrize("name", NETS)
some = pytest.mark.parametrize("name", ["rexnet", "pit, distilled"])


def evaluated(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = NETS[name]()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of one batch, without which signals would fade from block to block
    if norms:
        net.train()(images(16))
    return net.eval()


def images(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, 32, 48, generator=stream(0, "x"))


@some
def test_it_compiles_as_one_graph_and_exports(name: str) -> None:
    torch._dynamo.reset()
    net, x = evaluated(name), images()
    with torch.no_grad():
        wanted = net(x)
        exported = torch.export.export(net, (x,)).module()
        for other in (torch.compile(net, fullgraph=True, backend="eager"), exported):
            torch.testing.assert_close(other(x), wanted, atol=1e-5, rtol=1e-4)


@each
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # torch's attention, one image at a time
def test_per_sample_gradients_through_torch_func(name: str) -> None:
    """What an addition in place on a slice, as in ReXNet's original shortcut, may forbid."""
    net, x = evaluated(name), images(3)
    parameters = {n: p.detach() for n, p in net.named_parameters()}

    def loss(given: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, given, (image[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    net(x).square().sum().backward()
    for n, p in net.named_parameters():
        torch.testing.assert_close(found[n].sum(0), p.grad, atol=1e-3, rtol=1e-3)


@each
@torch.no_grad()
def test_one_image_gets_the_logits_it_gets_among_others(name: str) -> None:
    net, x = evaluated(name), images(3)
    torch.testing.assert_close(net(x[1:2]), net(x)[1:2], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(net(x)[0], net(x)[1], atol=1e-3)


@each
@torch.no_grad()
def test_layout_changes_nothing_and_bf16_little(name: str) -> None:
    net, x = evaluated(name), images()
    wanted = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(x)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), wanted, atol=0.1, rtol=0.1)
    net = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net.double()(x.double()).float(), wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_rexnet_takes_images_of_any_size_down_to_one_pixel() -> None:
    net = evaluated("rexnet")
    for height, width in ((1, 1), (7, 33), (65, 31)):
        assert net(torch.randn(1, 3, height, width)).isfinite().all()


@each
@torch.no_grad()
def test_features_before_the_classifier_and_another_classifier(name: str) -> None:
    net, x = evaluated(name), images()
    assert net.num_classes == 7
    features = net.forward_features(x)  # type: ignore[operator]
    if "pit" in name:
        maps, tokens = features
        assert maps.shape == (2, net.num_features, 1, 2)
        assert tokens.shape == (2, 2 if "distilled" in name else 1, net.num_features)
    elif "lite" not in name:
        torch.testing.assert_close(net.classifier(features.mean((2, 3))), net(x))  # type: ignore[operator]
    wide = {n: p for n, p in net.named_parameters() if "classifier" not in n}
    net.double().reset_classifier(3)  # type: ignore[operator]
    assert (net.num_classes, net(x.double()).shape) == (3, (2, 3))
    net.reset_classifier(0)  # type: ignore[operator]
    assert (net.num_classes, net(x.double()).shape) == (0, (2, net.num_features))
    net.reset_classifier(4)  # type: ignore[operator]
    assert net(x.double()).shape == (2, 4)
    assert all(net.get_parameter(n) is p for n, p in wide.items())


def test_a_batch_of_one_cannot_train_a_rexnet_and_torch_says_so() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        evaluated("rexnet").train()(images(1))
    evaluated("rexnet-lite").eval()(images(1))
