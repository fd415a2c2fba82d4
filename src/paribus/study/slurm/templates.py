"""The package's batch scripts for Slurm, beside this file. Imports nothing heavy: --help lists them."""

from pathlib import Path

_FOLDER = Path(__file__).parent
_SUFFIX = ".sbatch"


def list_templates() -> list[str]:
    return sorted(path.name.removesuffix(_SUFFIX) for path in _FOLDER.glob(f"*{_SUFFIX}"))


def find_template(name: str) -> Path:
    """The file of a template: one of the package by its name, or the user's own."""
    return _FOLDER / f"{name}{_SUFFIX}" if name in list_templates() else Path(name).expanduser()
