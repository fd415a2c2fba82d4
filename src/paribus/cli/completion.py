"""`paribus completion SHELL` prints a script for tab completion in a shell; it calls `paribus _complete WORDS...`.

Commands, flags and choices are those of the tree of commands (tree.py); each argument declares there what its value
completes to. Names come from the config files and existing folders. All within about 50 ms: no torch, no Hydra.
"""

import argparse
import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from paribus.cli import tree
from paribus.cli.arguments.others import SHELLS
from paribus.cli.options import Kind, Parser, completion_of
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.data.trees.names import FOLDER, list_manifest_names
from paribus.recipe.configs import find_config_folder, list_options

# COMP_LINE and not COMP_WORDS, because bash ends a word at "=" (unless in quotes) and expects what follows the last
_BASH = """\
# paribus for bash. In ~/.bashrc:  eval "$(paribus completion bash)"
_paribus() {
    local line=${COMP_LINE:0:COMP_POINT} words last word reply known=""
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    last=$((${#words[@]} - 1))
    word=${words[last]#[\\'\\"]}
    [[ $COMP_WORDBREAKS == *=* && $word == *=* && $word == "${words[last]}" ]] && known=${word%"${word##*=}"}
    COMPREPLY=()
    while IFS= read -r reply; do
        COMPREPLY+=("${reply#"$known"}")
    done < <("$1" _complete "${words[@]:1:last-1}" "$word" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _paribus paribus
"""
_ZSH = """\
#compdef paribus
# paribus for zsh. In ~/.zshrc, after compinit:  eval "$(paribus completion zsh)"
_paribus() {
    local -a found
    local word=${words[CURRENT]#[\\'\\"]}
    found=("${(@f)$("${(Q)words[1]}" _complete "${(@Q)words[2,CURRENT-1]}" "${(Q)word}" 2>/dev/null)}")
    compadd -S '' -- ${(M)found:#*[=/]}
    compadd -- ${found:#*[=/]}
}
compdef _paribus paribus
"""
_FISH = """\
# paribus for fish. In ~/.config/fish/config.fish:  paribus completion fish | source
function __paribus_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] _complete $words[2..] 2>/dev/null
end
complete -c paribus -f -a '(__paribus_complete)'
"""
SCRIPTS = dict(zip(SHELLS, (_BASH, _ZSH, _FISH), strict=True))

_FOLDER_KEYS = ("data.root", "data.pack", "paths.runs")  # of the config; their values are folders
_MANY = ("*", "+")  # nargs of arguments that take several words


def run(args: argparse.Namespace) -> int:
    print(SCRIPTS[args.shell], end="")
    return OK


def complete(words: list[str]) -> int:
    """words: those after `paribus`, the last one unfinished; prints its completions, one per line."""
    for found in candidates(words):
        print(found)
    return OK


def candidates(words: Sequence[str]) -> list[str]:
    """Completions of the last word. They end in = or / where the word continues after it."""
    *before, word = words or [""]
    try:
        found, rest = tree.find(before)
    except ConfigError:  # no such command
        return []
    if found[-1].commands and not word.startswith("-"):
        return _starting(word, found[-1].listed()) if not rest else []
    parser = tree.parser_of(found)
    option, before_it = _place(parser, rest)
    own = _config_dir(rest)
    if word.startswith("-"):
        flag, assigned, value = word.partition("=")
        action = parser.flags().get(flag)
        if not assigned:
            return _flags(parser, word)
        return [f"{flag}={v}" for v in _values(action, value, own)] if action is not None else []
    if option is not None:
        return _values(option, word, own)
    return next((values for action in _open(parser, before_it) if (values := _values(action, word, own))), [])


def _config_dir(words: Sequence[str]) -> Path | None:
    """The folder of the user's own configs that these words give, if it is one."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--config-dir=") else [word])]
    given = [value for flag, value in pairwise(parts) if flag in ("--config-dir", "-cd")]
    folder = Path(os.path.expanduser(given[-1])) if given else None
    return folder if folder is not None and folder.is_dir() else None


def _place(parser: Parser, words: Sequence[str]) -> tuple[argparse.Action | None, int]:
    """The option whose value comes after these words, None where a positional does, and how many of those there are."""
    flags = parser.flags()
    option, positionals = None, 0
    for word in words:
        if word.startswith("-"):
            action = flags.get(word)  # None as well for --flag=VALUE, after which no value comes
            option = action if action is not None and action.nargs != 0 else None
        elif option is None:
            positionals += 1
        elif option.nargs not in _MANY:
            option = None
    return option, positionals


def _open(parser: Parser, given: int) -> list[argparse.Action]:
    """The positionals that may come after as many as are given."""
    actions = parser.positionals()
    return actions[given:] or [action for action in actions[-1:] if action.nargs in _MANY]


def _flags(parser: Parser, start: str) -> list[str]:
    return _starting(start, sorted(flag for flag in parser.flags() if flag.startswith("--")))


def _values(action: argparse.Action, word: str, own: Path | None = None) -> list[str]:
    """Completions of the value of an argument. own: the folder of the user's own configs."""
    what = completion_of(action)
    if action.choices is not None:
        return _starting(word, action.choices)
    if what is None:
        return []
    if isinstance(what, str):
        return _KINDS[what](word, own)
    return _folder_of_key(word) or _starting(word, what)


def _starting(start: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]


def _override(word: str, own: Path | None, only: tuple[str, ...] = ()) -> list[str]:
    """A key of the config, or the value of one that names a file of a group, shipped or the user's own."""
    groups = only or tuple(sorted(path.name for path in find_config_folder().iterdir() if path.is_dir()))
    key, assigned, value = word.partition("=")
    if not assigned:
        group = key.partition(".")[0]
        if "." in key and group in groups:
            keys = {key for name in list_options(group) for key in _keys(f"{group}/{name}")}
            return _starting(word, sorted(f"{group}.{key}=" for key in keys))
        others = [] if only else [k for k in _keys("train") if k not in ("overlays", "hydra", *groups)]
        return _starting(word, [f"{k}=" for k in (*groups, *others)])
    if found := _folder_of_key(word):
        return found
    if key not in groups:
        return []
    # in a list, and in the values of a sweep, the last item is the one being typed
    before, begun = re.fullmatch(r"(.*[\[,])?(.*)", value, flags=re.DOTALL).groups()  # type: ignore[union-attr]
    taken = set(re.split(r"[\[,]", before or ""))
    return [f"{key}={before or ''}{name}" for name in _starting(begun, list_options(key, own)) if name not in taken]


def _keys(config: str) -> list[str]:
    """The top-level keys of a config file."""
    text = (find_config_folder() / f"{config}.yaml").read_text()
    return [key for key in re.findall(r"^(\w+):", text, flags=re.MULTILINE) if key not in ("_target_", "defaults")]


def _folder_of_key(word: str) -> list[str]:
    """The value of an override that names a folder."""
    key, _, value = word.partition("=")
    return [f"{key}={folder}" for folder in _paths(value)] if key in _FOLDER_KEYS else []


def _paths(word: str, whole: str = "", home: str = "", files: bool = False) -> list[str]:
    """Folders, and maybe files, that continue a path. whole: a file that makes a folder a whole word, as config.yaml
    does; those under ./home are offered even if it is not typed."""
    parent, _, begun = word.rpartition("/")
    if home and not parent and home.startswith(begun) and (found := _paths(f"{home}/", whole, files=files)):
        return found
    here = Path(parent or ("/" if word.startswith("/") else ".")).expanduser()
    try:
        found = sorted(path for path in here.iterdir() if path.name.startswith(begun) and (files or path.is_dir()))
    except (OSError, RuntimeError):  # the home of an unknown user
        return []
    prefix = word[: len(word) - len(begun)]
    shown = [path for path in found if begun.startswith(".") or not path.name.startswith(".")]
    ended = [not path.is_dir() or bool(whole and (path / whole).is_file()) for path in shown]
    return [f"{prefix}{path.name}{'' if end else '/'}" for path, end in zip(shown, ended, strict=True)]


_KINDS: dict[Kind, Callable[[str, Path | None], list[str]]] = {
    "run": lambda word, own: _paths(word, runfolder.CONFIG, "runs"),
    "run or file": lambda word, own: _paths(word, runfolder.CONFIG, "runs", files=True),
    "study or override": lambda word, own: [*_paths(word, "study.yaml", "experiments"), *_override(word, own)],
    "study": lambda word, own: _paths(word, "study.yaml", "experiments"),
    "folder": lambda word, own: _paths(word),
    "file": lambda word, own: _paths(word, files=True),
    "data set": lambda word, own: _starting(word, [*list_manifest_names(), FOLDER]),
    "card": lambda word, own: _starting(word, sorted(path.stem for path in Path("docs/cards").glob("*.yaml"))),
    "override": _override,
    "doctor": lambda word, own: [*_starting(word, ["gpu"]), *_override(word, own)],
    "data override": lambda word, own: (
        _override(word, own, ("data", "evaluators")) if word.startswith(("data", "eval")) else []
    ),
    "technique": lambda word, own: _starting(word, list_options("technique", own)),
}
