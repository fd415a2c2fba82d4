"""One name loads timm's weights into ReXNet and PiT; anything else is told."""

import pytest
import timm
import torch
from torch import nn

import paribus
from paribus.core.streams import stream

CASES = {
    "rexnet_100": lambda: paribus.rexnet(1.0, num_classes=7),
    "pit_ti_224": lambda: paribus.pit("ti", num_classes=7),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_are_timms(name: str) -> None:
    theirs, ours = timm.create_model(name, num_classes=7).eval(), CASES[name]().eval()
    x = torch.randn(2, 3, 224, 224, generator=stream(0, "x"))
    with torch.no_grad():
        assert (ours(x) - theirs(x)).abs().max() > 1e-3  # twin: before loading they differ
        paribus.load_timm_weights(ours, theirs.state_dict())
        assert (ours(x) - theirs(x)).abs().max() <= 1e-5


def test_other_networks_and_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"made by paribus\.rexnet \(but not lite\) or paribus\.pit; this Linear has"):
        paribus.load_timm_weights(nn.Linear(2, 2), {})
    with pytest.raises(ValueError, match="these weights do not fit"):
        paribus.load_timm_weights(CASES["rexnet_100"](), timm.create_model("pit_ti_224", num_classes=7).state_dict())
