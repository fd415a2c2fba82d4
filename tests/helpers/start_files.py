"""Every way in which a config can name a file whose content decides the result, and a class of one's own that does."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from paribus.core.build import schema
from paribus.core.content import Checksum, read_checked
from paribus.core.protocols import Spec
from paribus.models.convnet import ConvNet
from paribus.models.exported import save

SPEC = Spec(10, 3, 12, 12)  # of experiment=smoke
NETWORK = ConvNet(widths=(8, 16), depth=1, norm="batch")
NO_MODEL = [f"~model.{key}" for key in ("widths", "depth", "norm", "dropout")]
SMOKE = ["experiment=smoke", "packages=[helpers]", *NO_MODEL]
PAIR = [*SMOKE, "model._target_=helpers.two_heads.TwoHeads", "method=distilled", "~method.teacher"]
CONVNET = "{_target_: paribus.models.convnet.ConvNet, widths: [8, 16], depth: 1, norm: batch}"


def make_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return NETWORK(SPEC)


def export(path: Path, seed: int = 0) -> Path:
    """As `paribus export` writes it, path.json beside it."""
    return save(path, NETWORK, SPEC, make_network(seed).state_dict(), {})[0]


def plain(path: Path, seed: int = 0) -> Path:
    save_file(make_network(seed).state_dict(), path)
    return path


@schema
class FromWeights:
    """A class of a user's own, with the one line that it takes."""

    weights: str | None = None
    weights_sha256: Checksum = None  # of the file that `weights` names

    def __call__(self, spec: Spec) -> nn.Module:
        from safetensors.torch import load

        model = NETWORK(spec)
        if self.weights is not None:
            model.load_state_dict(load(read_checked(Path(self.weights), self.weights_sha256)))
        return model

    def without_file(self) -> "FromWeights":
        return FromWeights()


# name -> (how its file is written, the overrides that name it, the key of the path)
WAYS: dict[str, tuple[Any, Any, str]] = {
    "an export": (
        export,
        lambda file: [*SMOKE, "model._target_=paribus.models.exported.Exported", f"+model.path='{file}'"],
        "model.path",
    ),
    "a teacher's export": (
        export,
        lambda file: [*PAIR, f"+method.teacher={{_target_: paribus.models.exported.Exported, path: '{file}'}}"],
        "method.teacher.path",
    ),
    "a teacher's weights": (
        plain,
        lambda file: [*PAIR, f"+method.teacher={CONVNET}", f"method.weights='{file}'"],
        "method.weights",
    ),
    "timm": (
        plain,
        lambda file: ["experiment=smoke", "model=timm", "model.name=resnet18", f"model.weights='{file}'"],
        "model.weights",
    ),
    "timm's own word": (
        plain,
        lambda file: [
            *("experiment=smoke", "model=timm", "model.name=resnet18"),
            f"+model.args.checkpoint_path='{file}'",
        ],
        "model.weights",
    ),
    "the recipe's own key": (
        plain,
        lambda file: ["experiment=smoke", "model.widths=[8,16]", "model.norm=batch", f"init_from='{file}'"],
        "init_from",
    ),
    "one's own class": (
        plain,
        lambda file: [*SMOKE, "model._target_=helpers.start_files.FromWeights", f"+model.weights='{file}'"],
        "model.weights",
    ),
}
