"""What is known of an image dataset before its download: classes, counts, archives. One YAML file each in manifests/.

Imports neither torch nor Pillow: the command line lists the manifests.
"""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from paribus.core.build import did_you_mean, instantiate, schema
from paribus.core.errors import ConfigError
from paribus.data.trees.names import FOLDER, MANIFESTS, list_manifest_names

T = TypeVar("T")
_Count = Annotated[int, Field(ge=1)]


@schema
class Archive:
    """A file to download. url: None if an account is needed. md5: None if no trusted source states it.

    size: pixels of the shorter side, None for ImageNet's own sizes. torchvision: whether torchvision downloads it,
    which `--download` requires. nested: an archive of archives, which is not unpacked here.
    """

    file: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    size: _Count | None = None
    torchvision: bool = False
    nested: bool = False


@schema
class Manifest:
    """classes: class ids, which are folder names, to readable names, in the order of the targets.

    folders: usual names of the tree's folder, besides `name`. within: the larger dataset in whose tree this one may
    lie; other classes of that one are then accepted. share: fraction of the larger dataset's training images, drawn by
    the rule that the manifest states. train, val: number of images; None if no source states it.
    """

    name: str
    title: str
    classes: dict[str, str] = Field(min_length=2)
    folders: tuple[str, ...] = ()
    within: str | None = None
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    train: _Count | None = None
    val: _Count | None = None
    archives: tuple[Archive, ...] = ()

    def count(self, split: str) -> int | None:
        return {"train": self.train, "val": self.val}[split]


def load_manifest(name: str) -> Manifest:
    """Raises ConfigError if there is none of that name."""
    known = list_manifest_names()
    if name not in known:
        raise ConfigError(
            f"{name}: no such set of images{did_you_mean(name, [*known, FOLDER])}; there are {', '.join(known)}, and "
            f"{FOLDER} for any tree with train/ and val/"
        )
    return read_manifest(MANIFESTS / f"{name}.yaml")


def read_manifest(path: Path) -> Manifest:
    """Raises ConfigError with one line if the file is not a manifest."""
    content = _read_yaml(path)
    classes_source = content.pop("classes_of", None)
    if classes_source is not None:
        if classes_source not in list_manifest_names() or (MANIFESTS / f"{classes_source}.yaml") == path:
            raise ConfigError(f"{path}: classes_of: found {classes_source!r}; expected another set's name")
        content["classes"] = _read_yaml(MANIFESTS / f"{classes_source}.yaml").get("classes")
    archives = content.pop("archives", [])
    if not isinstance(archives, list) or not all(isinstance(a, dict) for a in archives):
        raise ConfigError(f"{path}: archives: found {archives!r}; expected a list of mappings")
    parsed_archives = tuple(
        _validate(Archive, _with_string_keys(a), f"{path}: archives.{i}.") for i, a in enumerate(archives)
    )
    folders = content.pop("folders", [])
    if not isinstance(folders, list):
        raise ConfigError(f"{path}: folders: found {folders!r}; expected a list of names")
    values = {**content, "name": path.stem, "folders": tuple(folders), "archives": parsed_archives}
    found = _validate(Manifest, _with_string_keys(values), f"{path}: ")
    if invalid_classes := [key for key in found.classes if not key or key[0] == "." or "/" in key]:
        raise ConfigError(f"{path}: classes: found {invalid_classes[0]!r}; expected names of folders")
    if found.within is not None and found.within not in list_manifest_names():
        raise ConfigError(f"{path}: within: found {found.within!r}; expected another set's name")
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no manifest: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: no manifest: found {type(content).__name__}, expected a mapping")
    return content


def _validate(cls: type[T], values: dict[str, Any], where: str) -> T:
    try:
        return instantiate(cls, values)
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from error


def _with_string_keys(mapping: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in mapping.items()}
