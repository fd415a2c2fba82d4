"""Networks of features: an export sees pixels as it was trained to, Inception is the user's file, what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import start_files
from paribus.core.build import to_config
from paribus.core.capabilities import embed
from paribus.core.content import hash_file
from paribus.core.errors import ConfigError
from paribus.core.features import FeatureFactory, to_8_bits
from paribus.core.protocols import ModelFactory, Spec
from paribus.core.streams import stream
from paribus.models.convnet import ConvNet
from paribus.models.exported import Exported, load, save
from paribus.models.features import ClassifierFeatures, InceptionFeatures, _read_weights
from paribus.recipe.recipe import Recipe, rebuild_recipe
from paribus.recipe.smoke import build_small

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
SPEC = Spec(classes=7, channels=3, height=12, width=12)


def export(path: Path, spec: Spec = SPEC, **more: Any) -> Path:
    """An untrained classifier as a run's export."""
    factory = ConvNet()
    torch.manual_seed(0)
    about = {"inputs": {**vars(spec), "mean": MEAN[: spec.channels], "std": STD[: spec.channels]}, **more}
    save(
        path, factory, spec, factory(spec).state_dict(), {"run": {"title": "digits-baseline-s0", "step": 500}, **about}
    )
    return path


def pixels(n: int = 5, channels: int = 3, side: int = 12) -> Tensor:
    return to_8_bits(torch.rand(n, channels, side, side, generator=stream(0, "features.test")))


def of_export(path: Path, **settings: Any) -> ClassifierFeatures:
    return ClassifierFeatures(classifier=Exported(path=str(path)), **settings)


def test_an_export_sees_pixels_normalised_as_it_was_trained_whatever_the_data(tmp_path: Path) -> None:
    path = export(tmp_path / "a.safetensors")
    factory = of_export(path).completed()
    assert isinstance(factory, FeatureFactory)
    other_classes = replace(SPEC, classes=3)  # of what is generated
    found = factory(other_classes)(pixels())
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    expected = embed(load(path), (pixels() - mean) / std)
    torch.testing.assert_close(found, expected)
    assert found.shape == (5, expected.shape[1])
    assert not torch.allclose(found, embed(load(path), pixels()))  # negative control: pixels as they are


def test_what_the_export_says_is_filled_in_and_its_name_is_not_so_that_another_file_has_its_own(tmp_path: Path) -> None:
    factory = of_export(export(tmp_path / "a.safetensors")).completed()
    assert (factory.mean, factory.std, factory.name) == (tuple(MEAN), tuple(STD), None)
    assert factory.describe() == "digits-baseline-s0, step 500"
    assert replace(factory, name="mine").describe() == "mine"
    named = replace(factory, classifier=replace(factory.classifier, path_sha256="0123456789abcdef" * 4))  # type: ignore[type-var]
    assert named.describe() == "digits-baseline-s0, step 500 (sha256 0123456789ab)"


def evaluator(*overrides: str) -> Recipe:
    return build_small(("experiment=smoke_images", "evaluators=[fid]", *overrides))


def test_a_recipe_knows_the_file_by_its_checksum_and_its_id_does_not_depend_on_it(tmp_path: Path) -> None:
    path = export(tmp_path / "a.safetensors")
    recipe = evaluator(f"evaluators.fid.features.classifier.path={path}")
    config = recipe.config["evaluators"]["fid"]["features"]
    assert config["mean"] == MEAN
    assert config["classifier"]["path_sha256"] == hash_file(path)
    assert recipe.id == build_small(("experiment=smoke_images",)).id
    path.unlink()
    path.with_suffix(".json").unlink()
    assert rebuild_recipe(recipe.config).config == recipe.config  # a record is read without it


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluators\.fid\.features\.classifier\.path: missing value"):
        evaluator()
    with pytest.raises(ConfigError, match=r"evaluators\.fid\.features\.classifier\.path: .*needed to measure with"):
        evaluator(f"evaluators.fid.features.classifier.path={tmp_path}/nowhere.safetensors")


@pytest.mark.parametrize(
    ("spec", "settings", "said"),
    [
        (replace(SPEC, height=16), {}, r"takes images of 3×12×12 .* data's are 3×16×12"),
        (replace(SPEC, channels=1), {}, r"takes images of 3×12×12"),
    ],
)
def test_images_that_it_was_not_made_for_are_refused(
    spec: Spec, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        of_export(export(tmp_path / "a.safetensors"), **settings)(spec)


def test_other_numbers_than_it_was_trained_with_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mean: found \(0.5, 0.5, 0.5\), and .*a\.json says \(0.4, 0.5, 0.6\)"):
        of_export(export(tmp_path / "a.safetensors"), mean=(0.5, 0.5, 0.5)).completed()
    missing = of_export(tmp_path / "nowhere.safetensors")
    assert missing.completed() == missing
    with pytest.raises(ConfigError, match=r"nowhere\.json: No such file"):
        missing(SPEC)


def test_any_other_network_says_what_it_is_normalised_with() -> None:
    with pytest.raises(ConfigError, match=r"mean, std: missing"):
        ClassifierFeatures(classifier=ConvNet())(SPEC)
    with pytest.raises(ConfigError, match=r"the data has 3 channels"):
        ClassifierFeatures(classifier=ConvNet(), mean=(0.5,), std=(0.5,))(SPEC)
    factory = ClassifierFeatures(classifier=ConvNet(), name="mine", mean=(0.5,) * 3, std=(0.5,) * 3)
    assert factory(SPEC)(pixels(2)).shape[0] == 2
    assert factory.describe() == "mine"


def test_8_bits_are_those_of_a_file() -> None:
    values = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 254.6 / 255, 1.3])
    assert (to_8_bits(values) * 255).round().tolist() == [0, 0, 0, 1, 128, 255, 255]
    assert torch.equal(to_8_bits(values), to_8_bits(to_8_bits(values)))


def test_a_file_of_weights_can_run_no_code(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": print}, path)
    with pytest.raises(ConfigError, match=r"is no sound file of weights"):
        _read_weights(path, None)
    torch.save({"a": torch.ones(2)}, path)
    assert torch.equal(_read_weights(path, None)["a"], torch.ones(2))
    with pytest.raises(ConfigError, match=r"sha256"):
        _read_weights(path, "0" * 64)


def test_inception_is_the_users_file_and_is_never_fetched(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.pth: No such file or directory; it is never downloaded"):
        InceptionFeatures(weights=str(tmp_path / "nowhere.pth"))(SPEC)
    with pytest.raises(ConfigError, match=r"1 or 3 channels, and the data has 4"):
        InceptionFeatures(weights=str(tmp_path / "a.pth"))(replace(SPEC, channels=4))


@pytest.mark.parametrize("source", ["torch_fidelity", "torchvision"])
def test_weights_of_another_network_are_refused(source: Any, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=rf"a\.pth does not fit Inception-v3 of {source}"):
        InceptionFeatures(weights=str(tmp_path / "a.pth"), source=source)(SPEC)


def draw_weights(network: nn.Module) -> dict[str, Tensor]:
    """Of a network that was made without its weights, for a test that asks whose they are."""
    drawn = stream(0, "features.inception")
    state = network.state_dict()
    for value in state.values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=drawn) * (0.1 if value.ndim > 1 else 1.0) + 0.01)
    return state


@pytest.mark.slow
def test_inception_of_torch_fidelity_gives_what_it_gives_there(tmp_path: Path) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as module

    class Empty(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any: ...

    path = tmp_path / "inception.pth"
    torch.save({}, path)
    torch.save(draw_weights(Empty("x", ["2048"], feature_extractor_weights_path=str(path))), path)
    there = module.FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(path))
    ours = InceptionFeatures(weights=str(path))(SPEC)
    for channels in (3, 1):
        images = pixels(2, channels)
        (expected,) = there((images.expand(-1, 3, -1, -1) * 255).round().to(torch.uint8))
        assert torch.equal(ours(images), expected)
        assert expected.shape == (2, 2048)


@pytest.mark.slow
def test_inception_of_torchvision_takes_both_of_its_kinds_of_files(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torchvision.models import inception_v3

    state = draw_weights(inception_v3(weights=None, init_weights=False))
    torch.save(state, tmp_path / "with.pth")
    save_file({k: v for k, v in state.items() if not k.startswith("AuxLogits.")}, tmp_path / "without.safetensors")
    found = [
        InceptionFeatures(weights=str(tmp_path / name), source="torchvision")(SPEC).eval()(pixels(2))
        for name in ("with.pth", "without.safetensors")
    ]
    assert found[0].shape == (2, 2048)
    assert torch.equal(*found)


def test_the_description_of_an_export_is_read_and_not_changed(tmp_path: Path) -> None:
    path = export(tmp_path / "a.safetensors")
    before = path.with_suffix(".json").read_text()
    of_export(path).completed()(SPEC)
    assert json.loads(before)["inputs"]["mean"] == MEAN
    assert path.with_suffix(".json").read_text() == before
    assert isinstance(of_export(path).classifier, ModelFactory)
    assert to_config(of_export(path))["classifier"]["path"] == str(path)
    assert start_files.SPEC.channels == 3
