"""`paribus data label-map`: cells whose mean is the network's own logits, ids and checksums, what is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helpers.trainings import composed, recipe_of, trained
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError
from paribus.core.label_maps import LabelMaps, densify, hash_maps, read_maps, to_bytes
from paribus.core.protocols import DeviceContext, Spec
from paribus.models.cifar_resnet import CifarResNet
from paribus.models.convnet import ConvNet
from paribus.runs import label_map
from paribus.runs.label_map import dense_logits, make_label_maps
from paribus.runs.network import load_network
from paribus.runs.saved_run import load_saved_run

SMALL = ("experiment=smoke", "steps=8ba", "data.size=16", "data.n=64", "data.val_n=32", "every.evaluate=8ba")
KEYS = ("data.", "packages", "runtime.")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("teacher"), *SMALL, "every.checkpoint=8ba").folder


def made(run: Path, *overrides: str, top: int = 5, size: int | None = None, batch: int = 24):
    return make_label_maps(load_saved_run(run, [], KEYS), overrides, KEYS, top, size, batch)


def logits_of(run: Path) -> Tensor:
    """The teacher's logits of each training image, uncropped, from the method that `paribus eval` would use."""
    recipe = recipe_of(*SMALL)
    data = recipe.data(DeviceContext(torch.device("cpu")))
    assert data.whole is not None
    model = load_network(run)
    with torch.no_grad():
        return torch.cat([model(batch.inputs) for batch in data.whole(64, None)])


def dense_of(maps: LabelMaps) -> Tensor:
    return densify(maps.values, maps.indices, 0.0, maps.about.classes)


def test_the_mean_over_cells_that_store_every_class_is_the_teachers_logits(run: Path) -> None:
    maps = made(run, top=10).maps
    assert maps.rest is None
    assert maps.grid == (8, 8)
    assert maps.ids.tolist() == list(range(64))
    assert torch.allclose(dense_of(maps).mean((2, 3)), logits_of(run), atol=1e-5)


def test_negative_control_without_the_bias_it_is_not(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = label_map.watch_ending

    def without_bias(model: nn.Module, inputs: Tensor):
        from dataclasses import replace

        scores, ending = real(model, inputs)
        assert ending is not None
        return scores, replace(ending, bias=None)

    monkeypatch.setattr(label_map, "watch_ending", without_bias)
    with pytest.raises(ConfigError, match=r"the mean of the classifier over all places is .* off"):
        made(run, top=10)


@pytest.mark.parametrize("factory", [ConvNet(widths=(4, 8)), CifarResNet(depth=8, width=4)], ids=["conv", "resnet"])
def test_of_any_network_that_ends_in_pool_and_linear(factory) -> None:
    model = factory(Spec(classes=7, channels=3, height=16, width=16)).eval()
    inputs = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        dense, scores = dense_logits(model, inputs)
    assert torch.allclose(dense.mean((2, 3)), scores, atol=1e-5)
    assert dense.shape[3] > dense.shape[2], "down, then across"


class Flat(nn.Module):
    """A linear layer on the pixels themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class Squared(nn.Module):
    """A pool whose result is changed before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean((2, 3)) ** 2)


@pytest.mark.parametrize("model", [Flat(), Squared()], ids=["flat", "squared"])
def test_a_network_of_another_ending_is_refused(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match="does not end in a global average pool and one linear layer"):
        dense_logits(model, torch.zeros(2, 3, 4, 4))


def test_the_file_is_known_by_its_content_and_not_by_clocks(run: Path, tmp_path: Path) -> None:
    one, other = made(run, top=3), made(run, top=3, batch=64)
    assert one.checksum == other.checksum
    assert to_bytes(one.maps) != to_bytes(other.maps) or one.maps.about.cost == other.maps.about.cost
    file = tmp_path / "a.safetensors"
    file.write_bytes(to_bytes(one.maps))
    again = read_maps(file)
    assert again.about == one.maps.about
    assert hash_maps(again) == one.checksum
    again.values[0, 0, 0, 0] += 1
    assert hash_maps(again) != one.checksum


def test_what_is_recorded_of_a_map(run: Path) -> None:
    maps = made(run, size=32).maps
    about = maps.about
    assert maps.grid == (16, 16), "a network that is convolutional up to its pool sees larger images"
    assert about.size == (32, 32)
    assert about.teacher == recipe_of(*SMALL).id
    assert len(about.weights) == len(about.data) == 64
    assert about.cost["device"] == "cpu"
    assert about.cost["teacher"]["step"] == 8
    assert about.cost["teacher"]["time/train_s"] > 0


def test_the_command_writes_what_a_run_trains_with(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "maps.safetensors"
    assert dispatch(["data", "label-map", str(run), "--out", str(file), "--top", "2"]) == 0
    said = capsys.readouterr().out
    assert "64 images, 8×8 cells, 2 of 10 classes a cell" in said
    recipe = recipe_of(*SMALL, f"transforms.relabel.maps={file}", techniques=("relabel",))
    checksum = recipe.config["transforms"]["relabel"]["maps_sha256"]
    assert f"transforms.relabel.maps_sha256={checksum}" in said
    moved = file.rename(tmp_path / "elsewhere")
    again = recipe_of(*SMALL, f"transforms.relabel.maps={moved}", techniques=("relabel",))
    assert again.id == recipe.id, "known by its content"
    result = trained(tmp_path / "runs", *SMALL, f"transforms.relabel.maps={moved}", techniques=("relabel",))
    assert result.code == 0


def test_a_map_of_other_images_is_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    from paribus.recipe.build import build_transforms

    file = tmp_path / "maps.safetensors"
    file.write_bytes(to_bytes(made(run).maps))
    here = DeviceContext(torch.device("cpu"))
    for change, wrong in (("data.n=60", "is of other training samples"), ("data.classes=9", "is of 10 classes")):
        recipe = recipe_of(*SMALL, change, f"transforms.relabel.maps={file}", techniques=("relabel",))
        with pytest.raises(ConfigError, match=f"^transforms.relabel.maps: .*{wrong}"):
            build_transforms(recipe, recipe.data(here), here)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, "No such file or directory; a run cannot start without it"),
        (b"", "is no label map of paribus"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "is no label map of paribus"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(content: bytes | None, wrong: str, tmp_path: Path) -> None:
    file = tmp_path / "maps.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=wrong) as refused:
        recipe_of(*SMALL, f"transforms.relabel.maps={file}", techniques=("relabel",))
    assert "\n" not in str(refused.value)


def test_without_a_file_it_is_asked_for() -> None:
    from paribus.recipe.recipe import build_recipe

    with pytest.raises(ConfigError, match=r"^transforms\.relabel\.maps: missing value \(\?\?\?\); give transforms"):
        build_recipe(composed("experiment=smoke", "technique=relabel", "tracker=events"), ["relabel"])


def test_other_classes_are_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"data: found 9 classes and 3 channels; .* was trained on 10 and 3"):
        made(run, "data.classes=9")
    with pytest.raises(ConfigError, match=r"^batch_size: cannot be overridden here"):
        made(run, "batch_size=3")
