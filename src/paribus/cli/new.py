"""`paribus new technique|data|study NAME`: a small template that works at once, and the commands to go on.

The templates lie in templates/, with $name for the name and $cls for the class. No torch.
"""

import argparse
import importlib.util
import keyword
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from string import Template

from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.recipe.configs import list_options

_TEMPLATES = Path(__file__).parent / "templates"
_EXAMPLE = "cutmix"  # the technique of a new study where there is none of the user's own


def technique(args: argparse.Namespace) -> int:
    name = check_name(args, "technique")
    files = {
        f"{name}/__init__.py": "technique/module.py.txt",
        f"configs/technique/{name}.yaml": "technique/overlay.yaml",
        f"tests/test_{name}.py": "technique/test.py.txt",
    }
    write(args.into, files, {"name": name, "cls": class_name(name)})
    return tell(
        args.into,
        files,
        {
            "its card, and is it sound": f"paribus check technique {name} --config-dir configs",
            # Not `unittest tests/test_NAME.py`: a tests package of some dependency would be taken for this folder.
            "its own test": f"python -m unittest discover -s tests -p test_{name}.py",
            "train with it": f"paribus train experiment=quickstart technique={name} --config-dir configs steps=2ep",
            "is it any good": f"paribus new study {name}_digits",
        },
    )


def data(args: argparse.Namespace) -> int:
    name = check_name(args, "data")
    files = {f"{name}.py": "data/module.py.txt", f"configs/data/{name}.yaml": "data/config.yaml"}
    write(args.into, files, {"name": name, "cls": class_name(name)})
    given = f"--config-dir configs data={name} 'packages=[{name}]'"
    return tell(
        args.into,
        files,
        {
            "is all there": f"paribus doctor {given}",
            "train on it": f"paribus train {given} model=convnet_small batch_size=32 steps=3ep",
        },
    )


def study(args: argparse.Namespace) -> int:
    name = args.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"new study: found {name!r}; should be the name of a folder: letters, digits, and _ . -")
    folder = f"experiments/{name}"
    own = sorted(path.stem for path in (args.into / "configs" / "technique").glob("*.yaml"))
    line = f"{'' if own else '# '}config_dir: ../../configs"
    values = {"config_dir": line, "technique": own[0] if len(own) == 1 else _EXAMPLE}
    write(args.into, files := {f"{folder}/study.yaml": "study/study.yaml"}, values)
    return tell(
        args.into,
        files,
        {
            "is every cell sound": f"paribus study plan {folder}",
            "train what is missing": f"paribus study run {folder} --workers 2",
            "verdicts and figures": f"paribus study report {folder}",
        },
    )


def check_name(args: argparse.Namespace, group: str) -> str:
    """The name, if a package and a config may have it. Raises ConfigError."""
    name = args.name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"new {group}: found {name!r}; should be the name of a Python package: lower-case letters, digits and _, "
            "a letter first"
        )
    if name in list_options(group):
        raise ConfigError(f"new {group}: paribus has a {group}={name} already; choose another name")
    taken = [path for path in (args.into / name, args.into / f"{name}.py") if path.exists()]
    if taken:
        raise ConfigError(
            f"new {group}: {taken[0]} is there already; choose another name, or another folder with --into"
        )
    if importlib.util.find_spec(name) is not None:
        raise ConfigError(
            f"new {group}: Python has a module {name} already, which would be imported; choose another name"
        )
    return name


def class_name(name: str) -> str:
    """
    >>> class_name("soft_crop2")
    'SoftCrop2'
    """
    return "".join(part.capitalize() for part in name.split("_"))


def write(into: Path, files: Mapping[str, str], values: Mapping[str, str]) -> None:
    """Fill in the templates and write them. Raises ConfigError, and writes nothing, if one of the files is there."""
    if there := [into / path for path in files if (into / path).exists()]:
        raise ConfigError(f"{there[0]} is there already, and is not overwritten; choose another name, or --into DIR")
    for path, template in files.items():
        try:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            (into / path).write_text(Template((_TEMPLATES / template).read_text()).substitute(values))
        except OSError as error:
            raise ConfigError(f"{into / path} cannot be written: {error.strerror}") from error


def tell(into: Path, files: Mapping[str, str], commands: Mapping[str, str]) -> int:
    """Print what was written and the commands to go on, which work as they are in a shell that stands here."""
    print("written")
    for path in files:
        print(f"  {into / path}")
    if into.absolute() != Path.cwd():
        commands = {"go there": f"cd {shlex.quote(str(into))}", **commands}
    width = max(map(len, commands))
    print("next")
    for label, command in commands.items():
        print(f"  {label:<{width}}  {command}")
    return OK
