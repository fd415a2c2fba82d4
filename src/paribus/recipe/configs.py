"""Where configs lie: the shipped ones inside the installed package, or at the top of a checkout; a user's own ones
in a folder that is laid out alike (--config-dir DIR, or config_dir of a study)."""

from pathlib import Path

from paribus.core.errors import ConfigError


def find_config_folder() -> Path:
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no configs beside {package}; install paribus again")


def list_options(group: str, config_dir: Path | None = None) -> dict[str, str]:
    """The files of a config group, name to the first comment line that is not a Hydra directive.

    config_dir: a folder of the user's own configs, whose files are listed too. Of two files of one name the shipped
    one is meant, as in Hydra. Raises ConfigError if there is no such folder.
    """
    folders = [find_config_folder(), *([check_config_dir(config_dir)] if config_dir is not None else [])]
    paths = {path.stem: path for folder in reversed(folders) for path in (folder / group).glob("*.yaml")}
    return {name: _read_headline(path) for name, path in sorted(paths.items())}


def check_config_dir(folder: Path) -> Path:
    """The folder, if it is one. Raises ConfigError."""
    if not folder.is_dir():
        raise ConfigError(
            f"--config-dir {folder}: there is no such folder; it is laid out as paribus's own configs are, "
            "technique/NAME.yaml and so on"
        )
    return folder


def find_hidden(group: str, config_dir: Path) -> list[str]:
    """The names of a user's configs that are never taken, since a shipped one with other content has the name."""
    shipped = find_config_folder() / group
    own = sorted((config_dir / group).glob("*.yaml"))
    return [p.stem for p in own if (t := shipped / p.name).is_file() and t.read_bytes() != p.read_bytes()]


def _read_headline(path: Path) -> str:
    comments = (line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
    return next((text for text in comments if not text.startswith("@package")), "")
