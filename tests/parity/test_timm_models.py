"""Our networks made by timm, on request and never on import."""

import subprocess
import sys
import warnings

import pytest
import timm
import torch
from torch import nn

import paribus
from paribus.models.vit_matching import build_on_meta

NAMES = paribus.register_with_timm()


def test_importing_paribus_imports_no_timm_and_registers_nothing() -> None:
    code = (
        "import paribus, sys\n"
        "paribus.pit, paribus.rexnet, paribus.register_with_timm, paribus.load_timm_weights\n"
        "assert not any(m == 'timm' or m.startswith('timm.') for m in sys.modules)\n"
        "import timm\n"
        "assert timm.list_models('paribus*') == []\n"
        "names = paribus.register_with_timm()\n"
        "assert sorted(names) == sorted(timm.list_models('paribus*'))\n"
        "print(len(names))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (str(len(NAMES)), "")


def test_asking_again_changes_nothing_and_warns_of_nothing() -> None:
    entry = timm.model_entrypoint("paribus_pit_s")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paribus.register_with_timm() == NAMES
    assert timm.model_entrypoint("paribus_pit_s") is entry


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_the_tensors_of_timms_network_of_that_name(name: str) -> None:
    """Widths and variants are wired to the right names."""
    theirs = name.removeprefix("paribus_") + ("_224" if "pit" in name else "")
    model = build_on_meta(lambda: timm.create_model(name, num_classes=7))
    if "lite" in name:
        assert model.num_features == 1024  # type: ignore[union-attr]
        return
    if name == "paribus_rexnet_090":
        oracle = build_on_meta(lambda: timm.models.rexnet.RexNet(width_mult=0.9, num_classes=7))
    else:
        oracle = build_on_meta(lambda: timm.create_model(theirs, num_classes=7))
    found = paribus.to_timm_state_dict(model)
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in oracle.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "theirs", "args"),
    [
        ("paribus_rexnet_100", "rexnet_100", {}),
        ("paribus_pit_ti_distilled", "pit_ti_distilled_224", {"img_size": (64, 96)}),
    ],
)
@torch.no_grad()
def test_arguments_mean_what_they_mean_to_timm(name: str, theirs: str, args: dict[str, object]) -> None:
    oracle = timm.create_model(theirs, num_classes=5, in_chans=2, drop_path_rate=0.0, **args)
    model = timm.create_model(name, num_classes=5, in_chans=2, drop_path_rate=0.0, drop_rate=0.0, **args)
    paribus.load_timm_weights(model, oracle.state_dict())
    x = torch.randn(2, 2, 64, 96)
    assert (model.eval()(x) - oracle.eval()(x)).abs().max() <= 1e-5
    data = timm.data.resolve_model_data_config(model)
    assert data["input_size"] == (2, *args.get("img_size", (224, 224)))  # type: ignore[misc]
    assert data["crop_pct"] == timm.data.resolve_model_data_config(oracle)["crop_pct"]
    for which in ("first_conv", "classifier"):
        assert isinstance(model.get_submodule(model.pretrained_cfg[which]), nn.Conv2d | nn.Linear)
    assert isinstance(model.train()(x), torch.Tensor)  # of both classifiers, as timm's own
    model.set_grad_checkpointing(True)
    model.reset_classifier(3)
    assert (model.num_classes, model(x).shape) == (3, (2, 3))


def test_what_timm_could_ask_for_and_there_is_not_is_told() -> None:
    with pytest.raises(ValueError, match="paribus_pit_s has no pretrained weights of its own"):
        timm.create_model("paribus_pit_s", pretrained=True)
    features = timm.create_model("paribus_rexnet_lite_100", num_classes=0).eval()
    assert features(torch.zeros(1, 3, 64, 64)).shape == (1, 1024)
    assert timm.create_model("paribus_rexnet_100", strides=32, checkpointing=True).checkpointing
