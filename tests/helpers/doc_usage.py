"""Is a command of the documentation one that paribus would understand? Asked of its own parser; nothing is run.

For commands that CI cannot run, and for those in running text, which may leave out what they do not speak of.
"""

import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from paribus.cli import tree
from paribus.core.errors import ConfigError

# words in the place of a value that has a form of its own
_VALUES = {
    **{"M": "0.5", "K": "2", "N": "2", "A:B": "0:2", "TIME": "1h", "SHELL": "bash", "COMMAND": "train"},
    **{"evaluators=[NAME]": "evaluators=[accuracy]", "data=NAME": "data=folder", "experiment=NAME": "experiment=smoke"},
}
_OVERRIDE = re.compile(r"[+~]{0,2}[\w./@]+=")
_FILES = re.compile(r"(?:tests|scripts|docs|examples)/[\w./-]+")
Compose = Callable[[Sequence[str]], tuple[int, str]]  # of `paribus train`: words -> exit code, what it said


def find_faults(text: str, root: Path, compose: Compose, whole: bool = True) -> list[str]:
    """What is wrong with a command line. root: of the checkout, whose files it may name. whole: nothing is left out."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        return [str(error)]
    files = [f"there is no {name}" for name in _FILES.findall(text) if _is_missing(root, name)]
    extras = [f"there is no extra {name}" for name in _extras(text) if f"\n{name} = [" not in _project(root)]
    return [*files, *extras, *(f for one in _calls(words) for f in _faults_of_call(one, compose, whole))]


def _is_missing(root: Path, name: str) -> bool:
    """Names in capitals are for the reader to fill in."""
    name = name.rstrip(".")
    return not any(part.isupper() for part in re.split(r"\W+", name)) and not any(root.glob(name))


def _extras(text: str) -> list[str]:
    return [name for group in re.findall(r"(?:\.|paribus)\[([\w,]+)\]", text) for name in group.split(",")]


def _project(root: Path) -> str:
    return (root / "pyproject.toml").read_text()


def _calls(words: Sequence[str]) -> list[list[str]]:
    """The words after each `paribus` or `-m paribus.cli`, up to the next operator of the shell."""
    found: list[list[str]] = []
    inside = False
    for k, word in enumerate(words):
        if word == "paribus" or (word == "paribus.cli" and words[k - 1] == "-m"):
            found.append([])
            inside = True
        elif word in ("|", "||", "&&", ";", ">", "2>", "&") or word.endswith(";"):
            inside = False
        elif inside:
            found[-1].append(word)
    return found


def _faults_of_call(words: list[str], compose: Compose, whole: bool) -> list[str]:
    words = [_VALUES.get(word, word) for word in _without_dots(words)]
    if not whole and any("|" in word for word in words):  # prepare|check
        first = [word.split("|")[0] for word in words]
        last = [word.split("|")[-1] for word in words]
        return [*_faults_of_call(first, compose, whole), *_faults_of_call(last, compose, whole)]
    if not words or words[0] in (*tree.HELP, "-V", "--version"):
        return []
    try:
        found, rest = tree.find(words)
    except ConfigError as error:
        return [str(error)]
    if found[-1].name == "train":
        return _faults_of_training(rest, compose)
    flags = tree.parser_of(found).flags()
    unknown = [w for w in rest if re.match(r"--?[a-zA-Z]", w) and w.split("=")[0] not in flags]
    if unknown:
        return [f"{' '.join(c.name for c in found)} has no {word}" for word in unknown]
    if set(rest) & set(tree.HELP) or (not whole and found[-1].commands):
        return []
    try:
        tree.read(found, rest)
    except ConfigError as error:
        left_out = "required" in str(error) or "found none" in str(error)
        return [] if left_out and not whole else [str(error)]
    return []


def _without_dots(words: Sequence[str]) -> list[str]:
    """RUN... stands for runs, [--study DIR] for something that may be left out, … for anything."""
    text = "\0".join(words)
    text = re.sub(r"(?<![\w=])\[(--[^\]]*)\]", r"\1", text)
    return [w.removesuffix("...") for w in text.split("\0") if w and w not in ("...", "…")]


def _faults_of_training(rest: Sequence[str], compose: Compose) -> list[str]:
    """Composed, unless it asks for help or has configs of the reader's own, which are not here."""
    known = tree.parser_of((tree.ROOT, next(c for c in tree.COMMANDS if c.name == "train"))).flags()
    unknown = [w for w in rest if re.match(r"--?[a-zA-Z]", w) and w.split("=")[0] not in {*known, "--multirun"}]
    if unknown:
        return [f"train has no {word}" for word in unknown]
    if {"--config-dir", "-cd", *tree.HELP} & {word.split("=")[0] for word in rest}:
        return []
    words = [w for w in rest if w not in ("-m", "--multirun", "-q", "--quiet", "--cfg", "job")]
    code, said = compose([first_of_sweep(w) if {"-m", "--multirun"} & set(rest) else w for w in words])
    return [said.strip()] if code else []


def first_of_sweep(word: str) -> str:
    """a=1,2 -> a=1"""
    return re.sub(r"^([^=]+=[^,\[({]+),.*$", r"\1", word)


def reads_files(config: str) -> bool:
    """Whether a composed recipe wants images that are on a disk: of a data set, or of the reader."""
    target = str(yaml.safe_load(config)["data"]["_target_"])
    return target.startswith(("paribus.data.cifar", "paribus.data.images"))


def count_steps(config: str) -> int:
    """Steps of a recipe whose length is in batches, and a great many where it is in epochs."""
    length = str(yaml.safe_load(config)["steps"])
    return int(length.removesuffix("ba")) if length.endswith("ba") else 10**6


def is_override(word: str) -> bool:
    return _OVERRIDE.match(word) is not None


def expand(word: str, here: Path) -> list[str]:
    """As the shell would: names of files where a pattern has some, else the word."""
    if not re.search(r"[*?]", word) or is_override(word):
        return [word]
    return sorted(str(path.relative_to(here)) for path in here.glob(word)) or [word]


def joined_path(*folders: Path) -> str:
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])
