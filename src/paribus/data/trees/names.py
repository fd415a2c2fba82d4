"""The names of the image datasets that have a manifest. Imports nothing heavy: the shell completes them."""

from pathlib import Path

FOLDER = "folder"  # the name that stands for any tree with train/ and val/, which has no manifest
MANIFESTS = Path(__file__).parent / "manifests"


def list_manifest_names() -> tuple[str, ...]:
    """The datasets that have a manifest, sorted."""
    return tuple(sorted(path.stem for path in MANIFESTS.glob("*.yaml")))
