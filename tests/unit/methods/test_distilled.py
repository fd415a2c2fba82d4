"""Hard distillation as a method: what trains and what does not, what a checkpoint knows, what is refused."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from helpers.trainings import recipe_of, stopping_after, trained, workbench
from paribus.cli.main import dispatch
from paribus.core.content import hash_file
from paribus.core.errors import ConfigError
from paribus.core.labels import format_classes
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.methods.distilled import DistilledTraining, hash_weights
from paribus.models.convnet import ConvNet
from paribus.models.exported import Exported, load, save
from paribus.models.timm_adapter import TimmPretrained
from paribus.models.vit import ViT
from paribus.runs.saved_run import load_newest_checkpoint

SPEC = Spec(10, 3, 12, 12)  # of experiment=smoke
TEACHER = ConvNet(widths=(8, 16), depth=1, norm="batch")
SMALL = [
    *("experiment=smoke", "packages=[helpers]", "model._target_=helpers.two_heads.TwoHeads"),
    *(f"~model.{key}" for key in ("widths", "depth", "norm", "dropout")),
]
PIT = ["experiment=smoke", "model=pit", "model.distilled=pair", "data.size=24", "batch_size=8"]


def teacher_file(folder: Path, seed: int = 0, spec: Spec = SPEC) -> Path:
    """An export, as `paribus export` writes it."""
    torch.manual_seed(seed)
    path, _ = save(folder / f"teacher{seed}.safetensors", TEACHER, spec, TEACHER(spec).state_dict(), {})
    return path


def under(teacher: str, *student: str) -> list[str]:
    """The overrides for this student and teacher."""
    return [*(student or SMALL), "method=distilled", "~method.teacher", f"+method.teacher={teacher}"]


def exported(path: Path) -> str:
    return f"{{_target_: paribus.models.exported.Exported, path: '{path}'}}"


def built(*overrides: str) -> tuple[Any, DistilledTraining, Any]:
    recipe = recipe_of(*overrides)
    data, method, _ = workbench(recipe)
    assert isinstance(method, DistilledTraining)
    return data, method, data.loader(recipe.batch_size, 0)


def test_the_student_learns_and_the_teacher_stays(tmp_path: Path) -> None:
    _, method, loader = built(*under(exported(teacher_file(tmp_path)), *PIT))
    teacher = method._student._slots.objective._teacher  # type: ignore[attr-defined]
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    weights = [p.detach().clone() for p in method.model.parameters()]
    for step in range(3):
        metrics = method.train_step(loader.batch(step), Progress(step, 10, 0))
    loss, of_labels, of_teacher = (float(metrics[f"train/loss{part}"]) for part in ("", "_labels", "_teacher"))
    assert loss == pytest.approx((of_labels + of_teacher) / 2, rel=1e-6)
    assert not teacher.training
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())  # BatchNorm's too
    moved = [not torch.equal(a, b) for a, b in zip(weights, method.model.parameters(), strict=True)]
    assert all(moved)
    grouped = {id(p) for group in method.optimizer.param_groups for p in group["params"]}
    assert grouped == {id(p) for p in method.model.parameters()}


def test_the_second_classifier_takes_the_teachers_choice(tmp_path: Path) -> None:
    """On one batch, again and again: the second classifier agrees with the teacher, the first with the labels."""
    _, method, loader = built(*under(exported(teacher_file(tmp_path))), "optimizer.lr=1e-3")
    batch = loader.batch(0)
    for step in range(30):
        method.train_step(batch, Progress(step, 1000, 0))
    teacher = load(teacher_file(tmp_path))
    chosen = teacher(batch.inputs).argmax(1)
    assert not torch.equal(chosen, batch.targets)
    first, second = method.model.train()(batch.inputs)
    assert torch.equal(first.argmax(1), batch.targets)
    assert torch.equal(second.argmax(1), chosen)
    method.prepare_eval()
    with torch.no_grad():
        assert torch.allclose(method.predict(batch.inputs), (first + second) / 2, atol=1e-5)


def test_accumulation_changes_memory_and_nothing_else(tmp_path: Path) -> None:
    overrides = [*under(exported(teacher_file(tmp_path))), "update.precision=fp64"]
    states = []
    for parts in (1, 4):
        _, method, loader = built(*overrides, f"update.accumulate={parts}")
        for step in range(2):
            method.train_step(loader.batch(step), Progress(step, 10, 0))
        states.append(method.model.state_dict())
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-11) for a, b in zip(*(s.values() for s in states), strict=True))


def test_a_checkpoint_holds_the_teachers_checksum_and_no_other_teacher_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = teacher_file(tmp_path)
    overrides = [*under(exported(path)), "steps=6ba", "ema.decay=0.9", "every.log=2ba", "every.evaluate=6ba"]
    whole = trained(tmp_path / "whole", *overrides)
    with monkeypatch.context() as patched:
        stopping_after(patched, 4)
        stopped = trained(tmp_path / "parts", *overrides)
    assert stopped.code == 75
    checkpoint = load_newest_checkpoint(stopped.folder)
    assert checkpoint is not None
    assert checkpoint.method["teacher"] == hash_weights(load(path))
    names = [name for part in ("model", "ema") for name in checkpoint.method[part]]
    assert len(names) == 2 * len(built(*overrides)[1].model.state_dict())  # nothing of the teacher

    good = path.read_bytes()
    path.write_bytes(teacher_file(tmp_path, seed=1).read_bytes())  # other weights at the same place: another run
    assert recipe_of(*overrides).id != checkpoint.recipe
    demanded = f"++method.teacher.path_sha256='{hash_file(teacher_file(tmp_path))}'"
    path.write_bytes(teacher_file(tmp_path, seed=1).read_bytes())
    with pytest.raises(ConfigError, match=r"method\.teacher\.path: .* has the sha256 [0-9a-f]{64}, and the recipe"):
        trained(tmp_path / "parts", *overrides, demanded)
    path.unlink()
    with pytest.raises(ConfigError, match=r"No such file.*every step asks the teacher, also after a resume"):
        trained(tmp_path / "parts", *overrides)
    path.write_bytes(good)
    resumed = trained(tmp_path / "parts", *overrides)
    assert resumed.folder == stopped.folder
    assert whole.same_as(resumed)


def test_a_teacher_of_the_same_config_and_other_weights_does_not_go_on(tmp_path: Path) -> None:
    """A teacher that no checksum covers, such as one whose code has changed."""
    path = teacher_file(tmp_path)
    _, method, _ = built(*under(exported(path)))
    state = {**method.state_dict(), "teacher": "0" * 64}
    with pytest.raises(ConfigError, match=r"method\.teacher: the checkpoint was made with the teacher 000000000000,"):
        method.load_state_dict(state)


def test_a_finished_run_is_exported_and_evaluated_as_any_other(tmp_path: Path, capsys: Any) -> None:
    path = teacher_file(tmp_path)
    done = trained(tmp_path, *under(exported(path), *PIT), "steps=2ba", "every.log=2ba", "data.val_n=8")
    for file in (path, path.with_suffix(".json")):
        file.unlink()  # neither needs the teacher
    assert dispatch(["export", str(done.folder)]) == 0
    assert dispatch(["eval", str(done.folder)]) == 0
    assert "val/acc1" in capsys.readouterr().out
    assert len(load(done.folder / "model.safetensors").classifiers) == 2  # type: ignore[arg-type]


def test_weights_from_a_file_go_into_any_network(tmp_path: Path) -> None:
    model = TEACHER(SPEC)
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    overrides = under("{_target_: paribus.models.convnet.ConvNet, widths: [8, 16], depth: 1, norm: batch}")
    _, method, _ = built(*overrides, f"method.weights='{tmp_path}/plain.safetensors'")
    assert method.state_dict()["teacher"] == hash_weights(model)
    (tmp_path / "damaged.safetensors").write_bytes(b"\x00" * 9)
    save_file(nn.Linear(3, 2).state_dict(), tmp_path / "other.safetensors")
    for name, what in (("absent", "No such file"), ("damaged", "no sound"), ("other", "does not fit method.teacher")):
        with pytest.raises(ConfigError, match=rf"method\.weights: .*{name}\.safetensors.*{what}"):
            built(*overrides, f"method.weights='{tmp_path}/{name}.safetensors'")


def test_networks_that_cannot_take_part_are_refused(tmp_path: Path) -> None:
    teacher = exported(teacher_file(tmp_path))
    for student in (
        [*SMALL, "+model.pair=false"],
        ["experiment=smoke"],
        ["experiment=smoke", "model=pit", "model.distilled=mean", "data.size=24"],
    ):
        with pytest.raises(ConfigError, match=r"model: method=distilled needs.*model\.distilled=pair"):
            built(*under(teacher, *student))
    with pytest.raises(ConfigError, match="knows 7 classes and 3 channels, the data has 10"):
        built(*under(exported(teacher_file(tmp_path, 2, replace(SPEC, classes=7)))))
    tall, vit = replace(SPEC, height=16), ViT(patch=4, heads=1, head_dim=8, depths=(1,))
    path, _ = save(tmp_path / "vit.safetensors", vit, tall, vit(tall).state_dict(), {})
    with pytest.raises(ConfigError, match=r"method\.teacher: it does not take images of 3×12×12"):
        built(*under(exported(path)))
    with pytest.raises(ConfigError, match=r"method\.teacher.*should be a ModelFactory"):
        built(*under("{_target_: paribus.methods.supervised.Supervised}"))


DIGITS = tuple("0123456789")


def of_digits(folder: Path, name: str, classes: Sequence[str]) -> Path:
    """One network whose outputs are for these classes, exported with their names."""
    spec = Spec(10, 1, 8, 8)
    torch.manual_seed(0)
    weights = TEACHER(spec).state_dict()
    if sorted(classes) == [*DIGITS]:
        for key in ("head.weight", "head.bias"):
            weights[key] = weights[key][[DIGITS.index(c) for c in classes]]
    return save(folder / f"{name}.safetensors", TEACHER, spec, weights, format_classes((), classes))[0]


@pytest.mark.parametrize("as_weights", [False, True])
def test_a_teachers_classes_are_matched_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], as_weights: bool
) -> None:
    def losses(path: Path) -> dict[str, float]:
        teacher = "{_target_: paribus.models.convnet.ConvNet, widths: [8, 16], depth: 1, norm: batch}"
        given = under(teacher if as_weights else exported(path))
        given += [f"method.weights='{path}'"] if as_weights else []
        _, method, loader = built(*given, "data=digits", "data.train_size=200")
        metrics = method.train_step(loader.batch(0), Progress(0, 10, 0))
        return {key: float(metrics[key]) for key in ("train/loss_labels", "train/loss_teacher")}

    straight = losses(of_digits(tmp_path, "straight", DIGITS))
    assert losses(of_digits(tmp_path, "turned", DIGITS[3:] + DIGITS[:3])) == straight
    assert "not known" not in capfd.readouterr().err
    turned = of_digits(tmp_path, "unnamed", DIGITS[3:] + DIGITS[:3])
    about = json.loads(turned.with_suffix(".json").read_text())
    turned.with_suffix(".json").write_text(json.dumps({k: v for k, v in about.items() if k != "classes"}))
    unnamed = losses(turned)
    assert unnamed["train/loss_labels"] == straight["train/loss_labels"]
    assert unnamed["train/loss_teacher"] != straight["train/loss_teacher"]
    assert "method.teacher: the names of its classes are not known" in capfd.readouterr().err
    with pytest.raises(ConfigError, match=r"method\.teacher: .* not in the teacher: 9; only in the teacher: nine$"):
        losses(of_digits(tmp_path, "others", [*DIGITS[:9], "nine"]))


class TestTimm:
    def test_unknown_names_and_other_classes_are_told_before_anything_is_fetched(self) -> None:
        with pytest.raises(ConfigError, match=r"no weights 'resnet18\.nothing'"):
            TimmPretrained(name="resnet18.nothing")(SPEC)
        with pytest.raises(ConfigError, match="knows 1000 classes, the data has 10"):
            TimmPretrained(name="regnety_160.deit_in1k")(SPEC)

    def test_weights_that_cannot_be_had_are_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(name: str, pretrained: bool) -> None:
            assert (name, pretrained) == ("regnety_160.deit_in1k", True)
            raise OSError("no\nnetwork")

        monkeypatch.setattr("timm.create_model", fails)
        with pytest.raises(ConfigError, match=r"could not be loaded: OSError: no; network .*; fetch them"):
            TimmPretrained(name="regnety_160.deit_in1k")(Spec(1000, 3, 224, 224))

    def test_the_fetched_file_is_the_one_that_is_hashed_and_loaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A hub's cache as huggingface_hub lays it out, without a network."""
        import timm
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        name = "resnet10t.c3_in1k"
        repository = tmp_path / "models--timm--resnet10t.c3_in1k"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        file = repository / "snapshots" / ("0" * 40) / "model.safetensors"
        file.parent.mkdir(parents=True)
        with pytest.raises(ConfigError, match="could not be loaded: LocalEntryNotFoundError"):
            TimmPretrained(name=name).find_weights()
        network = timm.create_model(name)
        save_file(network.state_dict(), file)
        assert TimmPretrained(name=name).find_weights() == file
        spec = Spec(1000, 3, 224, 224)
        loaded = TimmPretrained(name=name, weights_sha256=hash_file(file))(spec)
        assert hash_weights(loaded) == hash_weights(network)
        file.rename(file.with_name("pytorch_model.bin"))
        assert TimmPretrained(name=name).find_weights().name == "pytorch_model.bin"
        file.with_name("pytorch_model.bin").rename(file)
        with pytest.raises(ConfigError, match="has the sha256"):
            TimmPretrained(name=name, weights_sha256="0" * 64)(spec)
        bare = TimmPretrained(name=name, weights_sha256="0" * 64).without_file()(spec)
        assert {k: v.shape for k, v in bare.state_dict().items()} == {
            k: v.shape for k, v in loaded.state_dict().items()
        }


def test_exported_as_a_students_network(tmp_path: Path) -> None:
    path = teacher_file(tmp_path)
    made = Exported(path=str(path))(SPEC)
    assert hash_weights(made) == hash_weights(load(path))
