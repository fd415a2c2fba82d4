"""What an export's .json says of its network besides the config it is built from, as `paribus.load` gives it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from paribus.core.errors import ConfigError


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to an input, `channels` × size × size, in this order:

    stored_size: what the data set keeps of a file, such as the square of a pack: its shorter side resized to so many
    pixels (Pillow's bilinear, antialiased), then the centre square. None: the file's own pixels.
    size, crop_ratio, interpolation: the shorter side resized to round(size / crop_ratio), then the centre square of
    `size`. interpolation: Pillow's bilinear or bicubic; area: means of whole pixels.
    channels: 3 is RGB, 1 is grey, 4 is RGB and alpha (data/trees/decoding.py has the rules).
    mean, std: of a channel in units of the 0–1 range; an input is (pixel / 255 − mean) / std.
    """

    size: int
    crop_ratio: float
    interpolation: Literal["bilinear", "bicubic", "area"]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stored_size: int | None = None


@dataclass(frozen=True)
class About:
    """inputs: classes, channels, height, width, mean and std. classes: names of the outputs, class_ids what they are
    matched by (core/labels.py); () if unknown. preprocessing: None where the data set does not say, or the export is
    from before it was kept; then techniques, recipe and seed are empty, too. recipe: the run's config.yaml. run: its
    id, title and step. metrics: of that step; {} for an earlier one than the last. weights: average or model."""

    inputs: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    techniques: tuple[str, ...] = ()
    seed: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    weights: str = "model"


def read_about(description: Path) -> About:
    """Of a .json that `paribus export` wrote, in this version or an earlier one. Raises ConfigError."""
    try:
        written = json.loads(description.read_text())
        known = {key.name: written[key.name] for key in fields(About) if key.name in written}
        lists = {key: tuple(known[key]) for key in ("classes", "class_ids", "techniques") if key in known}
        given = known.get("preprocessing")
        preprocessing = None if given is None else Preprocessing(**_with_tuples(given))
        return About(**{**known, **lists, "preprocessing": preprocessing})
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; `paribus export RUN` writes both files") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{description} is damaged: {error}; export the run again") from error


def format_preprocessing(preprocessing: Preprocessing | None) -> dict[str, Any] | None:
    """For the .json."""
    return None if preprocessing is None else asdict(preprocessing)


def _with_tuples(written: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in written.items()}
