"""The names of the sets of images that have a manifest. Imports nothing: the command line completes them."""

from pathlib import Path

FOLDER = "folder"  # the name that stands for any tree with train/ and val/, which has no manifest
MANIFESTS = Path(__file__).parent / "manifests"


def list_manifest_names() -> tuple[str, ...]:
    """The sets that have a manifest."""
    return tuple(sorted(path.stem for path in MANIFESTS.glob("*.yaml")))
