"""A trained network leaves paribus: export, `paribus.load`, plain torch; and is evaluated again."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

import paribus as library
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def trained(paribus: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of ReXNet with an average of its weights."""
    folder = tmp_path_factory.mktemp("trained")
    done = paribus(
        *("train", "experiment=smoke_mobile", "technique=rexnet", "steps=8ba", "ema.decay=0.5", "tracker=events"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "runs").iterdir()
    return run


def test_an_export_is_read_back_by_paribus_and_by_plain_torch(trained: Path, tmp_path: Path, capfd) -> None:
    from safetensors.torch import load_file

    assert dispatch(["export", str(trained), "--out", str(tmp_path / "new" / "net.safetensors")]) == 0
    path = tmp_path / "new" / "net.safetensors"
    assert str(path) in capfd.readouterr().out
    about = json.loads(path.with_suffix(".json").read_text())
    state = torch.load(sorted((trained / "checkpoints").glob("step_*.pt"))[-1], weights_only=True)["method"]
    assert about["weights"] == "average"
    assert load_file(path).keys() == state["ema"].keys()
    assert all(torch.equal(value, state["ema"][name]) for name, value in load_file(path).items())
    assert not all(torch.equal(value, state["model"][name]) for name, value in load_file(path).items())

    before = torch.get_rng_state()
    net = library.load(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not net.training
    same = library.load(str(path.with_suffix(".json")))
    same.load_state_dict(load_file(path))
    shape = [about["inputs"][key] for key in ("channels", "height", "width")]
    images = torch.rand(3, *shape)
    assert torch.equal(net(images), same(images))
    assert net(images).shape == (3, about["inputs"]["classes"])
    assert about["metrics"]["val/acc1"] == json.loads((trained / "summary.json").read_text())["metrics"]["val/acc1"]


def test_what_is_exported_predicts_what_was_evaluated(trained: Path, tmp_path: Path, capfd) -> None:
    from paribus.core.protocols import DeviceContext
    from paribus.runs.saved_run import load_saved_run

    assert dispatch(["export", str(trained), f"--out={tmp_path}/net.safetensors"]) == 0
    found = load_saved_run(trained, [], ())
    data = found.recipe.data(DeviceContext(torch.device("cpu")))
    net = library.load(tmp_path / "net.safetensors")
    with torch.no_grad():
        right = sum(int((net(b.inputs).argmax(1) == b.targets).sum()) for b in data.splits["val"](64))
    assert right / data.sizes["val"] == found.summary["metrics"]["val/acc1"]


def test_what_cannot_be_read_back_is_said(trained: Path, tmp_path: Path, capfd) -> None:
    assert dispatch(["export", str(trained), "--out", str(tmp_path / "net.safetensors")]) == 0
    path, about = tmp_path / "net.safetensors", tmp_path / "net.json"
    description, weights = json.loads(about.read_text()), path.read_bytes()
    for change, told in (
        ({"model": {"_target_": "os.system"}}, "only classes of paribus"),
        ({"model": {"_target_": "paribus.models.convnet.ConvNet"}}, "does not describe"),
        ({"format": 99}, "format 99; this paribus reads up to 1"),
        ({"inputs": {}}, "does not describe"),
    ):
        about.write_text(json.dumps({**description, **change}))
        with pytest.raises(ConfigError, match=told):
            library.load(path)
    about.write_text(json.dumps(description))
    path.write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ConfigError, match="is damaged"):
        library.load(path)
    with pytest.raises(ConfigError, match="No such file"):
        library.load(tmp_path / "nowhere.safetensors")
    capfd.readouterr()
    for arguments, message in (
        (["export"], "paribus: export: the following arguments are required: RUN|CHECKPOINT|EXPORT;"),
        (["export", str(trained), "--out"], "argument --out: expected one argument"),
        (["export", str(trained), "--out=net.bin"], "should end in .safetensors"),
        (["export", str(trained), "--out=/proc/net.safetensors"], "cannot be written"),
        (["export", str(trained), "seed=1"], "seed: cannot be overridden here"),
        (["export", str(trained), "data.root=x", "another"], "one run folder, checkpoint or export is needed, found 2"),
        (["export", "nowhere"], "no run, checkpoint or export there"),
    ):
        assert dispatch(arguments) == 2
        err = capfd.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_eval_on_other_data(trained: Path, capfd) -> None:
    assert dispatch(["eval", str(trained), "data=synthetic", "data.size=12", "data.val_n=30"]) == 0
    assert "on data=synthetic data.size=12" in capfd.readouterr().out
    for overrides, message in (
        (["data=synthetic", "data.size=8"], "found 3×8×8 images of 10 classes; the network was trained on 3×12×12"),
        (["data=synthetik"], "there is no such data (did you mean synthetic?)"),
        (["data=synthetic", "data.sizee=8"], "data.sizee: no such key (did you mean data.size"),
        (["data.size=8"], "data.size: cannot be overridden here"),
        (["runtime.threads=["], "is not YAML"),
    ):
        assert dispatch(["eval", str(trained), *overrides]) == 2
        err = capfd.readouterr().err
        assert message in err
        assert err.count("\n") == 1
