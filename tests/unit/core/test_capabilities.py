"""Where a network looks and what its features are: from its last layers, whoever wrote it, or from itself."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.capabilities import class_activation_maps, embed, in_eval_mode
from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec
from paribus.core.streams import stream, use_generator
from paribus.models.cifar_resnet import CifarResNet
from paribus.models.convnet import ConvNet
from paribus.models.mobile import MobileNet
from paribus.models.pyramidnet import PyramidNet
from paribus.models.vit import ViT
from paribus.techniques.pit import PiT
from paribus.techniques.rexnet import ReXNet

SPEC = Spec(classes=5, channels=3, height=32, width=24)
SQUARE = Spec(classes=5, channels=3, height=32, width=32)
POOLED = {
    "cifar_resnet": CifarResNet(depth=8, width=4),
    "convnet": ConvNet(widths=(4, 8), depth=1, dropout=0.5),
    "mobile": MobileNet(repeats=(1, 2), steps=(8, 16), stem=8, head=24, expansion=2, se=True, match="off"),
    "rexnet": ReXNet(width=0.25),
    "pyramidnet": PyramidNet(depth=11, alpha=6),
    "timm resnet": lambda spec: timm.create_model("resnet18", num_classes=spec.classes),
    "timm mobilenetv2": lambda spec: timm.create_model("mobilenetv2_035", num_classes=spec.classes, drop_rate=0.3),
}
OTHERS = {
    "vit": ViT(patch=8, depths=(1,), heads=1, head_dim=16),
    "vit, averaged": ViT(patch=8, depths=(1,), heads=1, head_dim=16, global_pool="avg"),
    "pit": PiT(),
    "rexnet lite": ReXNet(width=0.25, lite=True),
    "max pool": lambda spec: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, spec.classes)
    ),
    "norm between": lambda spec: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, spec.classes)
    ),
    "changed in place": lambda spec: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4, spec.classes)
    ),
    "part of the places": lambda spec: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AvgPool2d(20), nn.Flatten(), nn.Linear(4, spec.classes), nn.Softmax(1)
    ),
}


def built(factory, spec: Spec = SPEC) -> nn.Module:
    with use_generator(stream(0, "net")):
        return factory(spec).eval()


def shown(n: int = 4, spec: Spec = SPEC) -> Tensor:
    return torch.randn(n, 3, spec.height, spec.width, generator=stream(0, "inputs"))


@pytest.mark.parametrize("name", POOLED)
def test_the_average_of_a_map_and_the_bias_are_the_score(name: str) -> None:
    """What defines the map, of every class: no other weighting of the features has it."""
    model, inputs = built(POOLED[name]), shown()
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        scores = model(inputs)
    for k in range(SPEC.classes):
        made = class_activation_maps(model, inputs, torch.full((4,), k))
        assert torch.equal(made.scores, scores)
        torch.testing.assert_close(made.maps.mean((1, 2)) + head.bias[k], scores[:, k], atol=1e-5, rtol=1e-4)
    own = class_activation_maps(model, inputs)
    torch.testing.assert_close(
        own.maps.mean((1, 2)) + head.bias[scores.argmax(1)], scores.amax(1), atol=1e-5, rtol=1e-4
    )
    assert not any(module._forward_hooks for module in model.modules())


def by_hand(model: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    """CifarResNet's, place by place and channel by channel."""
    features = model.blocks(F.relu(model.norm(model.stem(inputs)))).tolist()
    weights = model.head.weight.tolist()
    maps = []
    for channels, k in zip(features, classes.tolist(), strict=True):
        h, w = len(channels[0]), len(channels[0][0])
        maps.append(
            [[sum(weights[k][c] * channels[c][y][x] for c in range(len(channels))) for x in range(w)] for y in range(h)]
        )
    return torch.tensor(maps)


def test_a_map_is_weights_times_features() -> None:
    model, inputs, classes = built(POOLED["cifar_resnet"]), shown(), torch.tensor([4, 0, 0, 2])
    made = class_activation_maps(model, inputs, classes).maps
    assert made.shape == (4, 8, 6)
    torch.testing.assert_close(made, by_hand(model, inputs, classes), atol=1e-5, rtol=1e-5)
    with pytest.raises(AssertionError):  # of other classes
        torch.testing.assert_close(made, by_hand(model, inputs, classes.roll(1)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_other_endings_are_refused(name: str) -> None:
    model = built(OTHERS[name], SQUARE)
    with pytest.raises(ConfigError, match=r"does not end in a global average pool and one linear layer"):
        class_activation_maps(model, shown(2, SQUARE))


class Own(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]

    def attribute(self, inputs: Tensor, classes: Tensor) -> Tensor:
        return inputs[:, 0] * classes[:, None, None]

    def embed(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, 5:7]


def test_a_network_that_says_so_itself_is_asked() -> None:
    inputs = shown()
    made = class_activation_maps(Own(), inputs)
    assert torch.equal(made.maps, inputs[:, 0] * inputs.flatten(1)[:, :3].argmax(1)[:, None, None])
    assert torch.equal(class_activation_maps(Own(), inputs, torch.full((4,), 2)).maps, inputs[:, 0] * 2)
    assert torch.equal(embed(Own(), inputs), inputs.flatten(1)[:, 5:7])


@pytest.mark.parametrize("name", ["cifar_resnet", "pyramidnet", "timm resnet", "vit"])
def test_features_are_what_the_last_layer_is_given(name: str) -> None:
    spec = SQUARE if name == "vit" else SPEC
    model, inputs = built({**POOLED, **OTHERS}[name], spec), shown(spec=spec)
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        torch.testing.assert_close(head(embed(model, inputs)), model(inputs))


def test_features_of_what_ends_otherwise_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Sequential does not end in a linear layer"):
        embed(built(OTHERS["part of the places"], SQUARE), shown(2, SQUARE))


def test_no_image_is_an_empty_map() -> None:
    made = class_activation_maps(built(POOLED["cifar_resnet"]), shown()[:0])
    assert made.maps.shape == (0, 8, 6)


def test_a_look_changes_no_mode_and_no_statistics() -> None:
    model = built(POOLED["cifar_resnet"]).train()
    model.blocks[0].eval()
    modes, state = [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    with in_eval_mode(model):
        assert not any(m.training for m in model.modules())
        class_activation_maps(model, shown())
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
