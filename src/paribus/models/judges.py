"""A classifier of ours that judges the images of another network: the export of a run, from pixels to scores."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.content import Checksum
from paribus.core.errors import ConfigError
from paribus.core.pixels import to_inputs
from paribus.core.protocols import Spec
from paribus.models.about import read_about
from paribus.models.exported import Exported, file_names


class PixelClassifier(nn.Module):
    """(n, c, h, w) pixels, 0 to 1, to (n, classes) scores. It normalises them as its network was trained."""

    def __init__(self, network: nn.Module, classes: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network, self.classes, self._mean, self._std = network, classes, mean, std

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(to_inputs(pixels, self._mean, self._std))


@schema
class Judge:
    """path: of an export (`paribus export`), the .safetensors or the .json; its classes need not be the data's.
    path_sha256: of the .safetensors, filled in; written by hand it demands that file."""

    path: str
    path_sha256: Checksum = None

    def find_path(self) -> Path:
        """Of what is hashed (core/content.py)."""
        return file_names(Path(self.path))[0]

    def __call__(self, spec: Spec) -> nn.Module:
        """Raises ConfigError if the file is not there, or takes images of another size or number of channels."""
        known = read_about(file_names(Path(self.path))[1]).inputs
        own, its = ((s["channels"], s["height"], s["width"]) for s in (vars(spec), known))
        if own != its:
            taken, given = ("×".join(map(str, shape)) for shape in (its, own))
            raise ConfigError(
                f"{self.path}: it takes images of {taken} (channels, height, width), the data has {given}"
            )
        network = Exported(path=self.path, path_sha256=self.path_sha256)(replace(spec, classes=known["classes"]))
        mean, std = (tuple(float(x) for x in known[key]) for key in ("mean", "std"))
        return PixelClassifier(network, known["classes"], mean, std)
