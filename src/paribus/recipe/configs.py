"""Where the shipped configs lie: inside the installed package, or at the top of a checkout."""

from pathlib import Path

from paribus.core.errors import ConfigError


def find_config_folder() -> Path:
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no configs beside {package}; install paribus again")


def list_options(group: str) -> dict[str, str]:
    """The files of a config group, name to the first comment line that is not a Hydra directive."""
    return {path.stem: _read_headline(path) for path in sorted((find_config_folder() / group).glob("*.yaml"))}


def _read_headline(path: Path) -> str:
    comments = (line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
    return next((text for text in comments if not text.startswith("@package")), "")
