"""Every shipped network as a graph of torch.export and as ONNX: what it gives is what the network gives."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import paribus
from paribus.core.build import build
from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec
from paribus.core.streams import stream, use_generator
from paribus.interop import graphs
from paribus.interop.graphs import DESCRIPTION, check_onnx, write_onnx, write_pt2
from paribus.models.about import About
from paribus.recipe.compose import compose_config
from paribus.recipe.configs import list_options

# overrides that make each network small, and the pixels a side
QUICK = {
    "convnet": (["model=convnet_tiny"], 8),
    "stacked_conv": (["model=stacked_conv", "model.widths=[4,8]"], 8),
    "mlp": (["model=mlp"], 4),
    "cifar_resnet": (["model=cifar_resnet", "model.depth=8", "model.width=8"], 8),
    "mobile": (["model=mobile_tiny"], 16),
    "pyramidnet": (["model=pyramidnet110", "model.depth=11", "model.alpha=6"], 8),
    "vit": (["model=vit_tiny"], 12),
    "two encoders": (["model=two_encoders", "model.widths=[4,8]", "model.learns=gaussians"], 8),
    "timm's resnet18": (["model=resnet18"], 32),
}
SLOW = {
    "mobile, se": (["model=mobile", "model.width=0.25", "model.se=true"], 16),
    "rexnet": (["model=rexnet", "model.width=0.5", "model.depth=0.5"], 32),
    "rexnet-lite": (["model=rexnet", "model.width=0.5", "model.depth=0.5", "model.lite=true"], 32),
    "pit": (["model=pit"], 32),
    "pit, distilled": (["model=pit", "model.distilled=pair"], 32),
    "timm's resnet50": (["model=resnet50"], 32),
}
CASES = {**QUICK, **SLOW}
GENERATORS = {
    "dcgan": ["model=dcgan", "model.latent=6", "model.widths=[8,4]"],
    "residual_gan": ["model=residual_gan", "model.latent=6", "model.width=4", "model.doublings=2"],
}
each = pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)], ids=str
)
# ONNX takes several times as long
each_slowly = pytest.mark.parametrize(
    "name",
    [name if name in ("convnet", "vit") else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
    ids=str,
)
has_onnx = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not has_onnx, reason="onnx, onnxscript or onnxruntime is not installed")


def network(name: str) -> nn.Module:
    """With BatchNorm statistics of one batch, without which signals would fade from block to block."""
    overrides, size = CASES[name]
    factory = build(compose_config(list(overrides))["model"], "model")
    with use_generator(stream(0, "model")):
        made = factory(Spec(7, 3, size, size)).train()
    made(images(name, 4))
    made.about = About({"classes": 7, "channels": 3, "height": size, "width": size}, classes=tuple("abcdefg"))
    return made.eval()


def images(name: str, n: int) -> torch.Tensor:
    size = CASES[name][1]
    return torch.randn(n, 3, size, size, generator=stream(n, "x"))


def test_every_model_config_is_of_a_class_that_is_tried_here() -> None:
    def classes(models: list[str]) -> set[str]:
        return {compose_config([f"model={model}"])["model"]["_target_"] for model in models}

    tried = [overrides[0].removeprefix("model=") for overrides, _ in CASES.values()]
    tried += [*GENERATORS, "stargan"]
    assert classes(tried) == classes(list(list_options("model")))


@each
@torch.no_grad()
def test_a_graph_of_torch_gives_the_same_bits_for_any_batch(name: str, tmp_path: Path) -> None:
    net, extra = network(name), {DESCRIPTION: ""}
    path = write_pt2(net, tmp_path / "net.pt2")
    graph = torch.export.load(path, extra_files=extra).module()
    for n in (1, 2, 5):
        assert torch.equal(graph(images(name, n)), net(images(name, n)))
    assert json.loads(extra[DESCRIPTION])["classes"] == list("abcdefg")


@needs_onnx
@each_slowly
@torch.no_grad()
def test_onnx_gives_the_same_numbers_for_any_batch(name: str, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    net = network(name)
    path = write_onnx(net, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(path)
    for n in (1, 5):
        (found,) = session.run(["logits"], {"inputs": images(name, n).numpy()})
        torch.testing.assert_close(torch.from_numpy(found), net(images(name, n)), atol=1e-5, rtol=1e-4)
    written = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(written[DESCRIPTION])["classes"] == list("abcdefg")


def test_without_the_packages_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs onnx and onnxscript, .*; pip install onnx onnxscript \(or paribus"):
        check_onnx()


class Undecided(nn.Module):
    """Takes a branch by its values, which no graph can."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if bool(x.sum() > 0) else -x


def test_a_network_that_cannot_be_traced_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    net = Undecided()
    net.about = About({"channels": 1, "height": 2, "width": 2})  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"^--pt2: torch cannot export this network: "):
        write_pt2(net, tmp_path / "net.pt2")
    with pytest.raises(ConfigError, match=r"nowhere/net.pt2 cannot be written"):
        write_pt2(network("convnet"), tmp_path / "nowhere" / "net.pt2")
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_the_package_touches_torch_jit() -> None:
    found = [
        str(path)
        for path in Path(paribus.__file__).parent.rglob("*.py")
        if re.search(r"torch\.jit|from torch import .*\bjit\b", path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", GENERATORS)
@torch.no_grad()
def test_a_generators_graph_makes_the_same_images(name: str, conditional: bool, tmp_path: Path) -> None:
    model = compose_config([*GENERATORS[name], f"model.conditional={str(conditional).lower()}"])["model"]
    with use_generator(stream(0, "model")):
        net = build(model, "model")(Spec(7, 3, 8, 8)).eval()
    net.about = About({"classes": 7, "channels": 3, "height": 8, "width": 8})
    graph = torch.export.load(write_pt2(net, tmp_path / "net.pt2")).module()
    for n in (1, 3):
        noise = torch.randn(n, 6, generator=stream(n, "noise"))
        classes = (torch.eye(7)[:n],) if conditional else ()
        assert torch.equal(graph(noise, *classes), net(noise, *classes).images)


def test_no_graph_of_a_network_that_translates_is_written(tmp_path: Path) -> None:
    net = build(
        compose_config(["model=stargan", "model.width=4", "model.halvings=1", "model.blocks=0"])["model"], "model"
    )(Spec(3, 3, 8, 8))
    net.about = About({"classes": 3, "channels": 3, "height": 8, "width": 8})
    with pytest.raises(ConfigError, match=r"^--pt2: a network that translates takes images and domains"):
        write_pt2(net, tmp_path / "net.pt2")
