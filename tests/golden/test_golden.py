"""Golden losses: a change that must not alter results shows identical curves here.

On the platform that recorded them the losses must be equal to the last bit; elsewhere (other torch, other CPU) within a
tolerance. `python tests/golden/test_golden.py` records them again, which CONTRIBUTING.md's second door is for.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.recorded_losses import FILE, platform
from helpers.trainings import trained

CURVES = {
    "smoke": (["experiment=smoke", "steps=40ba", "every.log=4ba"], ()),
    "smoke, CutMix": (["experiment=smoke", "steps=40ba", "every.log=4ba"], ("cutmix",)),
    "quickstart, CutMix": (
        ["experiment=quickstart", "steps=24ba", "every.log=4ba", "every.evaluate=24ba"],
        ("cutmix",),
    ),
    "smoke, SGD, accumulated, averaged": (
        [
            *("experiment=smoke", "optimizer=sgd", "optimizer.lr=0.05", "steps=40ba", "every.log=4ba"),
            *("update.accumulate=2", "update.clip_norm=1.0", "ema.decay=0.9", "model.dropout=0.1"),
        ],
        (),
    ),
}
KEYS = ("train/loss", "val/loss", "val/acc1")


def curve(name: str, folder: Path) -> list[dict[str, float]]:
    overrides, techniques = CURVES[name]
    events = trained(folder, *overrides, techniques=techniques).events
    return [{k: e["values"][k] for k in KEYS if k in e["values"]} for e in events]


@pytest.mark.parametrize("name", CURVES)
def test_losses_are_the_recorded_ones(name: str, tmp_path: Path) -> None:
    recorded: dict[str, Any] = json.loads(FILE.read_text())
    assert set(recorded["curves"]) == set(CURVES)
    got, want = curve(name, tmp_path), recorded["curves"][name]
    if recorded["platform"] == platform():
        assert got == want
    for mine, theirs in zip(got, want, strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine:
            assert mine[key] == pytest.approx(theirs[key], rel=2e-2, abs=3e-2), key


def test_negative_control_another_learning_rate_is_noticed(tmp_path: Path) -> None:
    overrides, _ = CURVES["smoke"]
    other = trained(tmp_path, *overrides, "optimizer.lr=0.02").events
    recorded = json.loads(FILE.read_text())["curves"]["smoke"]
    off = [abs(e["values"]["train/loss"] - r["train/loss"]) for e, r in zip(other, recorded, strict=True)]
    assert max(off) > 5e-2  # more than any platform is allowed


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        curves = {name: curve(name, Path(scratch) / str(i)) for i, name in enumerate(CURVES)}
    FILE.write_text(json.dumps({"platform": platform(), "curves": curves}, indent=1) + "\n")
    print(f"recorded {len(curves)} curves on {platform()}")
