"""`paribus eval`: any evaluators, any split, class by class; of a run, a checkpoint and an export."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import paribus
from helpers.trainings import run
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.protocols import DeviceContext
from paribus.evaluators.confusion import count_confusion
from paribus.runs import confusion
from paribus.runs.chosen_evaluators import choose_evaluators
from paribus.runs.evaluation import name_classes
from paribus.runs.export import drop_places
from paribus.runs.saved_run import load_network, load_saved_run

SMALL = ["experiment=smoke", "steps=8ba", "batch_size=16", "every.checkpoint=4ba", "every.evaluate=8ba"]
DATA = ["data.size=8", "data.n=96", "data.val_n=50", "data.minival=20", "data.classes=10", "ema.decay=0.5"]
ACCURACY = {"_target_": "paribus.evaluators.accuracy.Accuracy", "splits": ["val"], "batch_size": 7}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("runs"), *SMALL, *DATA)[1]


def lines(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def counts_of(folder: Path, batch_size: int, world: int) -> torch.Tensor:
    """Summed over the ranks of a world of this size."""
    found, total = load_saved_run(folder, [], ()), torch.zeros(10, 10, dtype=torch.int64)
    for rank in range(world):
        place = DeviceContext(torch.device("cpu"), rank=rank, world=world)
        data = found.recipe.data(place)
        method = load_network(found, found.recipe, data, place)
        method.prepare_eval()
        total += count_confusion(method, data.splits["val"](batch_size), 10, place.device)  # type: ignore[arg-type]
    return total


def test_counts_are_exact_whatever_batches_and_ranks(trained: Path) -> None:
    whole = counts_of(trained, 50, 1)
    assert whole.sum(1).tolist() == [5] * 10  # every image once
    recorded = json.loads((trained / "summary.json").read_text())["metrics"]["val/acc1"]
    assert int(whole.diagonal().sum()) / 50 == recorded
    for batch_size, world in ((1, 1), (7, 1), (13, 2), (50, 3)):
        assert torch.equal(counts_of(trained, batch_size, world), whole)


def test_outputs_that_are_nan_are_of_no_class() -> None:
    class Broken:
        def predict(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.full((len(inputs), 3), float("nan"))

    class Batch:
        inputs, targets = torch.zeros(4, 1), torch.tensor([0, 1, 2, 0])

    with pytest.raises(RunFailed, match="NaN for 4 images"):
        count_confusion(Broken(), [Batch()], 3, torch.device("cpu"))  # type: ignore[list-item]


def test_by_class_and_confusion_of_a_run_its_checkpoint_and_its_export(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["eval", str(trained), "--per-class", "--confusion"]) == 0
    out = capfd.readouterr().out
    expected = counts_of(trained, 50, 1)
    last = next(line for line in out.splitlines() if line.startswith("all "))
    right = int(expected.diagonal().sum())
    assert last.split() == ["all", "50", str(right), f"{right / 50:.4f}"]
    assert "true \\ predicted" in out
    found = lines(trained / "confusion-val.csv")
    assert found[0] == ["true class", *map(str, range(10))]
    assert [[int(cell) for cell in row[1:]] for row in found[1:]] == expected.tolist()
    with Image.open(trained / "confusion-val.png") as image:
        assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)  # light
    assert not (trained / "per_class-val.csv").exists()

    assert dispatch(["export", str(trained), "--out", str(tmp_path / "net.safetensors")]) == 0
    for where, name in (
        (trained, "val"),
        (trained / "checkpoints" / "step_00000008.pt", "val-step8"),
        (tmp_path / "net.safetensors", "val-net"),
    ):
        assert dispatch(["eval", str(where), "--per-class", "--confusion", "--out", str(tmp_path / "o")]) == 0
        assert lines(tmp_path / "o" / f"confusion-{name}.csv") == found
        table = lines(tmp_path / "o" / f"per_class-{name}.csv")
        assert table[0] == ["class", "images", "correct", "accuracy"]
        assert [int(row[2]) for row in table[1:]] == expected.diagonal().tolist()
    assert dispatch(["eval", str(trained), "--confusion", "--out", "/proc/x"]) == 2
    assert "--out DIR chooses another folder" in capfd.readouterr().err


def test_an_export_is_evaluated_to_the_runs_numbers(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["export", str(trained), "--out", str(tmp_path / "net.safetensors")]) == 0
    capfd.readouterr()
    assert dispatch(["eval", str(trained)]) == 0
    of_run = capfd.readouterr().out.splitlines()
    assert dispatch(["eval", str(tmp_path / "net.json")]) == 0
    head, *of_export = capfd.readouterr().out.splitlines()
    assert head == "net.safetensors of smoke-baseline-s0 after step 8"
    assert of_export == [line for line in of_run[1:] if "without_ema" not in line]  # an export has one network


def test_quiet_prints_the_metrics_alone(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["eval", str(trained)]) == 0
    usual = [line.split() for line in capfd.readouterr().out.splitlines()[1:]]
    for flags in (["-q"], ["--quiet", "--per-class", "--confusion", "--out", str(tmp_path)]):
        assert dispatch(["eval", str(trained), *flags]) == 0
        assert capfd.readouterr().out.splitlines() == [f"{key} {value}" for key, value in usual]
    assert len(list(tmp_path.glob("*-val.*"))) == 3
    assert dispatch(["eval", str(trained), "-q", "--per-class"]) == 2
    assert "--quiet prints no table; --out DIR writes it" in capfd.readouterr().err


def test_any_evaluators_and_splits(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def keys(*words: str) -> set[str]:
        assert dispatch(["eval", str(trained), *words]) == 0
        shown = (line.split()[0] for line in capfd.readouterr().out.splitlines()[1:])
        return {key for key in shown if not key.endswith("_without_ema")}

    of_val = {"val/acc1", "val/acc5", "val/loss"}
    assert keys() == {*of_val, "train/unmixed_loss"}
    assert keys("evaluators=[accuracy]") == keys("evaluators=accuracy") == of_val
    assert keys("evaluators=[]") == set()
    assert keys("evaluators.unmixed=null", "evaluators.accuracy.splits=[minival]") == {
        "minival/acc1",
        "minival/acc5",
        "minival/loss",
    }
    both = keys("evaluators=[accuracy]", "--split=val", "--split", "train_sample")
    assert both == {f"{split}/{name}" for split in ("val", "train_sample") for name in ("acc1", "acc5", "loss")}
    added = "+evaluators.more._target_=paribus.evaluators.unmixed_loss.UnmixedLoss"
    assert keys("evaluators=[]", added) == {"train/unmixed_loss"}
    for words, told in (
        (["evaluators=[acuracy]"], "there is no such evaluators (did you mean accuracy?)"),
        (["evaluators.accuracy.split=[val]"], "evaluators.accuracy.split: no such key (did you mean splits?)"),
        (["evaluators=3"], "should be a list of names"),
        (["--split=test"], "found test; the data has val, minival, train_sample"),
        (["--split=test", "evaluators=[]", "--confusion"], "--split: found test; the data has val"),
        (["+evaluators.more._target_=os.system"], "only classes of paribus"),
    ):
        assert dispatch(["eval", str(trained), *words]) == 2
        err = capfd.readouterr().err
        assert told in err
        assert err.count("\n") == 1


def test_the_runs_own_settings_of_an_evaluator_are_kept() -> None:
    own = {"accuracy": ACCURACY, "unmixed": None}
    assert choose_evaluators(own, ["evaluators=[accuracy]"]) == {"accuracy": ACCURACY}
    assert choose_evaluators(own, ["evaluators=[unmixed]"])["unmixed"]["batch_size"] == 512  # the shipped one
    assert choose_evaluators(own, ["evaluators.accuracy.batch_size=9"])["accuracy"] == {**ACCURACY, "batch_size": 9}
    assert own == {"accuracy": ACCURACY, "unmixed": None}
    with pytest.raises(ConfigError, match="an evaluator's setting is"):
        choose_evaluators(own, ["evaluators.accuracy.splits.x=1"])


def test_what_an_export_says_of_its_network(trained: Path, tmp_path: Path) -> None:
    assert dispatch(["export", str(trained), "--out", str(tmp_path / "net.safetensors")]) == 0
    about = paribus.load(tmp_path / "net.safetensors").about
    assert (about.techniques, about.seed, about.weights, about.run["step"]) == ((), 0, "average", 8)
    assert about.recipe == drop_places(load_saved_run(trained, [], ()).recipe.config)
    assert about.metrics == json.loads((trained / "summary.json").read_text())["metrics"]
    p = about.preprocessing
    assert p is not None
    assert (p.size, p.crop_ratio, p.channels, p.mean, p.std, p.stored_size) == (8, 1.0, 3, (0.5,) * 3, (0.3,) * 3, 8)
    description = json.loads((tmp_path / "net.json").read_text())
    (tmp_path / "net.json").write_text(json.dumps({**description, "preprocessing": {"size": 8}}))
    with pytest.raises(ConfigError, match=r"net\.json is damaged: "):
        paribus.load(tmp_path / "net.safetensors")


@pytest.mark.parametrize("classes", [2, 130])
def test_the_picture_has_room_for_long_names_and_many_classes(classes: int, tmp_path: Path) -> None:
    names = [f"a class with a long name, the {k}th" for k in range(classes)]
    path = confusion.draw_confusion(tmp_path / "x.png", names, torch.eye(classes, dtype=torch.int64) * 1234, "title")
    with Image.open(path) as image:
        width, height = image.size
    assert 300 < width < 6000
    assert 300 < height < 6000


def test_the_tables_of_a_terminal() -> None:
    counts = torch.tensor([[1200, 3, 0], [0, 0, 0], [1, 0, 9]])
    assert confusion.format_per_class(["cat", "dog", "hen"], counts) == [
        "class  images  correct  accuracy",
        "cat     1,203    1,200    0.9975",
        "dog         0        0         –",
        "hen        10        9    0.9000",
        "all     1,213    1,209    0.9967",
    ]
    assert confusion.format_confusion(["cat", "dog", "a long name"], counts) == [
        "true \\ predicted    cat  dog  a long …",
        "cat               1,200    3         ·",
        "dog                   ·    ·         ·",
        "a long name           1    ·         9",
    ]


def test_every_class_has_a_name_of_its_own() -> None:
    assert name_classes(("crane", "crane"), ("n01", "n02"), 2) == ("crane (n01)", "crane (n02)")
    assert name_classes(("a", "a"), (), 2) == ("a (0)", "a (1)")
    assert name_classes((), (), 2) == ("0", "1")
    assert name_classes((), ("x", "y"), 2) == ("x", "y")


def test_a_setting_of_an_evaluator_that_is_not_chosen_is_told() -> None:
    own = {"accuracy": ACCURACY, "unmixed": None}
    with pytest.raises(
        ConfigError, match=r"no evaluator acuracy here \(did you mean accuracy\?\); chosen are accuracy"
    ):
        choose_evaluators(own, ["evaluators.acuracy.batch_size=3"])
    added = choose_evaluators(own, ["+evaluators.mine._target_=a.B", "evaluators.mine.x=1"])
    assert added["mine"] == {"_target_": "a.B", "x": 1}
