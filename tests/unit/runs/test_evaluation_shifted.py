"""`paribus eval` on files of other distributions: CIFAR-10-C, and trees like ImageNet-C's, -A's, -R's and -V2's."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.image_trees import picture
from helpers.trainings import run
from paribus.cli.arguments.trained import EVAL_KEYS
from paribus.cli.main import dispatch
from paribus.core.protocols import DeviceContext
from paribus.data.cifar import CLASSES
from paribus.data.loaders.evaluation_files import build_evaluation_of_files
from paribus.data.loaders.preprocessing import find_file_preprocessing
from paribus.data.trees.evaluation_tree import find_class_folders, find_groups
from paribus.engine.distributed import World
from paribus.runs.evaluation import Evaluation, open_evaluation

NAMES = CLASSES["cifar10"].split()
VAL = 3  # images of a class


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on 32 px images of CIFAR-10's classes, and its tree."""
    root = tmp_path_factory.mktemp("shifted")
    for split, count in (("train", 4), ("val", VAL)):
        for name in NAMES:
            folder = root / "ten" / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                picture(f"{name}{split}{k}", 32, 32).save(folder / f"{k}.png")
    settings = ("data=folder", "data.form=folder", "data.size=32", "data.eval_ratio=1.0", "data.workers=0")
    more = ("experiment=smoke", "steps=6ba", "batch_size=10", "ema.decay=0.5", f"data.root={root / 'ten'}")
    code, folder = run(root / "runs", *more, *settings)
    assert code == 0
    return folder, root / "ten"


def opened(folder: Path, *words: str, splits: tuple[str, ...] = (), tree_classes: bool = False) -> Evaluation:
    more = ["runtime.threads=1"]
    return open_evaluation(folder, [*words, *more], EVAL_KEYS, splits, World(), None, tree_classes)


def logits_of(evaluation: Evaluation, split: str = "val") -> torch.Tensor:
    evaluation.network.prepare_eval()
    return torch.cat([evaluation.network.predict(batch.inputs) for batch in evaluation.data.splits[split](7)])


def test_cifar_c_of_the_same_images_has_the_runs_own_numbers(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, tree = trained
    files = [tree / "val" / name / f"{k}.png" for name in NAMES for k in range(VAL)]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    labels = np.repeat(np.arange(10), VAL).astype(np.uint8)
    whole = np.concatenate([pixels if severity == 3 else 255 - pixels for severity in range(1, 6)])
    np.save(tmp_path / "fog.npy", whole)
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    own = opened(folder, "data.workers=0").measure().metrics
    words = ("data=cifar10_c", f"data.root={tmp_path}", "data.kind=fog")
    found = opened(folder, *words, "data.severity=3")
    of_val = {key: value for key, value in own.items() if key.startswith("val/")}
    assert found.measure().metrics == pytest.approx(of_val, abs=1e-6)
    other = opened(folder, *words, "data.severity=2").measure().metrics
    assert other["val/loss"] != pytest.approx(own["val/loss"], abs=1e-6)

    capsys.readouterr()
    assert dispatch(["eval", str(folder), *words, "data.severity=3", "runtime.threads=1"]) == 0
    assert "on data=cifar10_c" in capsys.readouterr().out
    for wrong, told in (
        (("data.kind=snow",), "data.kind: snow is not there"),
        (("data.kind=fog", "data.severity=6"), "data.severity: found 6"),
        (("data.kind=fog", "data.root=/nowhere"), "cifar10_c is not there"),
        (("data.kind=fog", "--split", "minival"), "found minival; the data has val"),
    ):
        assert dispatch(["eval", str(folder), "data=cifar10_c", f"data.root={tmp_path}", *wrong]) == 2, wrong
        err = capsys.readouterr().err
        assert told in err
        assert err.strip().count("\n") <= 1  # a warning at most before it


@pytest.fixture
def corrupted(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    """KIND/SEVERITY/CLASS with two kinds at two severities, all with the run's own images but one."""
    for kind in ("fog", "snow"):
        for severity in ("1", "5"):
            shutil.copytree(trained[1] / "val", tmp_path / "c" / kind / severity)
    for name in NAMES:
        picture("other", 32, 32).save(tmp_path / "c" / "snow" / "5" / name / "0.png")
    return tmp_path / "c"


def test_folders_above_the_classes_are_splits(trained: tuple[Path, Path], corrupted: Path) -> None:
    folder, _ = trained
    own = logits_of(opened(folder, "data.workers=0"))
    alone = opened(folder, f"data.root={corrupted / 'fog' / '5'}")
    assert set(alone.data.splits) == {"val"}
    assert torch.equal(logits_of(alone), own)
    kind = opened(folder, f"data.root={corrupted / 'snow'}")
    assert kind.data.sizes == {"val": 2 * len(own), "1": len(own), "5": len(own)}
    assert torch.equal(logits_of(kind, "1"), own)
    assert not torch.equal(logits_of(kind, "5"), own)  # negative control
    assert torch.equal(logits_of(kind), torch.cat([logits_of(kind, "1"), logits_of(kind, "5")]))
    whole = opened(folder, f"data.root={corrupted}", splits=("val", "fog"))
    assert whole.data.sizes == {"val": 4 * len(own), "fog": 2 * len(own), "snow": 2 * len(own)}
    assert torch.equal(logits_of(whole, "fog"), torch.cat([own, own]))
    metrics = whole.measure().metrics
    assert {"val/acc1", "fog/acc1"} <= set(metrics)
    assert "snow/acc1" not in metrics


def test_whatever_is_no_such_tree_is_left_to_the_data(trained: tuple[Path, Path], corrupted: Path) -> None:
    shutil.copytree(trained[1], corrupted.parent / "data" / "pets")  # train/ and val/: a set of its own
    assert find_class_folders(corrupted.parent / "data", NAMES) is None
    assert find_groups(corrupted, ()) == ()
    (corrupted.parent / "ten" / "cifar-10-batches-py").mkdir(parents=True)
    assert find_class_folders(corrupted.parent / "ten", NAMES) is None


def test_folders_of_numbers_are_places_of_classes(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, tree = trained
    for k, name in enumerate(NAMES):
        shutil.copytree(tree / "val" / name, tmp_path / "v2" / str(k))
    own, found = opened(folder, "data.workers=0"), opened(folder, f"data.root={tmp_path / 'v2'}")
    assert torch.equal(logits_of(found), logits_of(own))
    of_val = {key: value for key, value in own.measure().metrics.items() if key.startswith("val/")}
    assert found.measure().metrics == of_val
    shutil.move(tmp_path / "v2" / "3", tmp_path / "v2" / "10")
    capsys.readouterr()
    assert dispatch(["eval", str(folder), f"data.root={tmp_path / 'v2'}"]) == 2
    err = capsys.readouterr().err
    assert "10 folders of no class of the network" in err
    assert "if they are those from 0 to 9, all of them" in err


def test_prediction_among_the_classes_of_a_tree(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, tree = trained
    few = ("bird", "frog", "truck")
    for name in few:
        shutil.copytree(tree / "val" / name, tmp_path / "few" / name)
    places = [NAMES.index(name) for name in few]
    root = f"data.root={tmp_path / 'few'}"
    capsys.readouterr()
    plain = opened(folder, root)
    assert "--tree-classes leaves out those without a folder" in capsys.readouterr().err
    among = opened(folder, root, tree_classes=True)
    assert "--tree-classes" not in capsys.readouterr().err
    logits = logits_of(plain)
    targets = torch.tensor(places).repeat_interleave(VAL)
    predicted = torch.tensor(places)[logits[:, places].argmax(1)]
    metrics = among.measure().metrics
    assert metrics["val/acc1"] == (predicted == targets).double().mean()
    loss = torch.nn.functional.cross_entropy(logits[:, places].double(), torch.arange(3).repeat_interleave(VAL))
    assert metrics["val/loss"] == pytest.approx(loss.item(), abs=1e-6)
    assert metrics["val/loss"] < plain.measure().metrics["val/loss"]  # negative control: 7 classes more
    assert metrics.keys() == plain.measure().metrics.keys()  # those of the latest weights, too
    assert "val/acc1_without_ema" in metrics
    counts = among.count_confusion("val")
    assert counts.sum() == counts[:, places].sum() == 3 * VAL

    assert dispatch(["eval", str(folder), "--tree-classes"]) == 2
    assert "--tree-classes: needs data.root=TREE" in capsys.readouterr().err
    assert dispatch(["eval", str(folder), root, "--tree-classes"]) == 0


@pytest.mark.parametrize("world", [2, 4, 70])
def test_processes_share_a_tree(trained: tuple[Path, Path], corrupted: Path, world: int) -> None:
    folder, _ = trained
    preprocessing = find_file_preprocessing(opened(folder, "data.workers=0").found.recipe.data)

    def read(rank: int, world: int) -> tuple[torch.Tensor, torch.Tensor]:
        place = DeviceContext(torch.device("cpu"), rank=rank, world=world)
        sets = build_evaluation_of_files(corrupted / "fog", NAMES, preprocessing, place)
        batches = list(sets.splits["val"](4))
        return torch.cat([b.inputs for b in batches]), torch.cat([b.ids for b in batches])

    inputs, ids = read(0, 1)
    shares = [read(rank, world) for rank in range(world)]
    assert torch.equal(ids, torch.arange(2 * 10 * VAL))
    assert torch.equal(torch.cat([share[0] for share in shares]), inputs)
    assert torch.equal(torch.cat([share[1] for share in shares]), ids)


def test_images_of_the_final_size_are_taken_as_they_are(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """ImageNet-C's files are crops already: eval_ratio=1.0 neither enlarges nor cuts them, of a run that does."""
    folder, tree = trained
    words = ("data=folder", "data.form=folder", f"data.root={tree / 'val'}")
    exact = next(iter(opened(folder, *words, "data.eval_ratio=1.0").data.splits["val"](1))).inputs
    cut = next(iter(opened(folder, *words, "data.eval_ratio=0.875").data.splits["val"](1))).inputs
    pixels = torch.from_numpy(np.asarray(Image.open(tree / "val" / NAMES[0] / "0.png")).copy()).permute(2, 0, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(exact[0], (pixels.float() / 255 - mean) / std)
    assert not torch.equal(exact, cut)
