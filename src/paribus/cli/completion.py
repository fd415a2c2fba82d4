"""`paribus completion SHELL` prints a script for a shell's Tab key; the script asks `paribus _complete WORDS...`.

Answers come from the config files and the folders that are there, within some 50 ms: no torch, no Hydra.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from paribus.cli.list import GROUPS
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.recipe.configs import find_config_folder, list_options

USAGE = "usage: paribus completion bash|zsh|fish"

# COMP_LINE and not COMP_WORDS, because bash ends a word at "=" (unless in quotes) and wants back what follows the last
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
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_FLAGS = {
    "train": ("--cfg", "--config-dir", "--help", "--multirun", "--quiet"),
    "eval": ("--help",),
    "export": ("--help", "--out"),
    "verify": ("--help", "--json", "--span", "--steps", "--tolerance"),
    "list": ("--help",),
    "compare": ("--against", "--fail-if", "--help", "--json", "--junit", "--margin", "--metric"),
    "study": (
        "--fail-if",
        "--help",
        "--json",
        "--junit",
        "--margin",
        "--power",
        "--repeat",
        "--workers",
        "--cluster",
        "--dry-run",
        "--template",
    ),
    "bench": ("--help",),
    "cards": ("--write",),
    "results": ("--help", "--write"),
    "wandb": ("--help", "--offline"),
    "data": ("--allow-missing", "--deep", "--download", "--help", "--list", "--on-error", "--out", "--root", "--size"),
}
_ACTIONS = {
    "study": ("plan", "run", "status", "report", "import", "cancel"),
    "bench": ("techniques", "loop", "data", "start"),
    "wandb": ("sync",),
    "data": ("prepare", "check", "list"),
}


def run(arguments: list[str]) -> int:
    if arguments in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        raise ConfigError(f"completion {' '.join(arguments)}: no such shell; {USAGE}")
    print(SCRIPTS[arguments[0]], end="")
    return 0


def run_complete(arguments: list[str]) -> int:
    """The words after `paribus`, the last one unfinished; prints what it may become, one a line."""
    for found in candidates(arguments):
        print(found)
    return 0


def candidates(words: list[str]) -> list[str]:
    """What the last word may become. Ends in = or / where the word goes on after it."""
    from paribus.cli.main import COMMANDS

    command, last = words[0] if words else "", words[-1] if words else ""
    if len(words) <= 1:
        shown = [name for name in COMMANDS if name[0] != "_"]
        return _starting(last, [*shown, *(("--help", "--version") if last else ())])
    if words[-2] in ("--config-dir", "--out", "--root"):
        return _folders(last, runs=False)
    if last.startswith("-"):
        return _starting(last, [*_FLAGS.get(command, ()), *(["--json"] if words[:2] == ["list", "runs"] else [])])
    if command == "train":
        return ["job"] if words[-2] == "--cfg" else _override(last)
    if command in ("eval", "export", "verify", "compare"):
        other_data = command == "eval" and last.startswith("data")
        return _override(last, ("data",)) if other_data else _folders(last, runs=True)
    if command == "list":
        return _starting(last, [*GROUPS, "runs"]) if len(words) == 2 else _folders(last, runs=False)
    if command in _ACTIONS:
        return _starting(last, _ACTIONS[command]) if len(words) == 2 else _folders(last, runs=False)
    return _starting(last, SCRIPTS) if command == "completion" and len(words) == 2 else []


def _starting(start: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]


def _override(word: str, only: tuple[str, ...] = ()) -> list[str]:
    """A key of the config, or the value of one that names a file of a group."""
    groups = only or tuple(sorted(path.name for path in find_config_folder().iterdir() if path.is_dir()))
    key, assigned, value = word.partition("=")
    if not assigned:
        group = key.partition(".")[0]
        if "." in key and group in groups:
            keys = {key for name in list_options(group) for key in _keys(f"{group}/{name}")}
            return _starting(word, sorted(f"{group}.{key}=" for key in keys))
        own = [] if only else [k for k in _keys("train") if k not in ("overlays", "hydra", *groups)]
        return _starting(word, [f"{k}=" for k in (*groups, *own)])
    if key in ("data.root", "paths.runs"):
        return [f"{key}={folder}" for folder in _folders(value, runs=False)]
    if key not in groups:
        return []
    # of a list, and of what a sweep goes over, the last item is being written
    before, begun = re.fullmatch(r"(.*[\[,])?(.*)", value, flags=re.DOTALL).groups()  # type: ignore[union-attr]
    taken = set(re.split(r"[\[,]", before or ""))
    return [f"{key}={before or ''}{name}" for name in _starting(begun, list_options(key)) if name not in taken]


def _keys(config: str) -> list[str]:
    """The top-level keys of a config file."""
    text = (find_config_folder() / f"{config}.yaml").read_text()
    return [key for key in re.findall(r"^(\w+):", text, flags=re.MULTILINE) if key not in ("_target_", "defaults")]


def _folders(word: str, runs: bool) -> list[str]:
    """Folders that continue a path. With `runs`, run folders are whole words, and those under ./runs come unasked."""
    parent, _, begun = word.rpartition("/")
    if runs and not parent and "runs".startswith(begun) and (found := _folders("runs/", runs)):
        return found
    here = Path(parent or ("/" if word.startswith("/") else ".")).expanduser()
    try:
        names = sorted(path for path in here.iterdir() if path.is_dir() and path.name.startswith(begun))
    except OSError:
        return []
    prefix = word[: len(word) - len(begun)]
    shown = [path for path in names if begun.startswith(".") or not path.name.startswith(".")]
    return [prefix + path.name + ("" if runs and (path / runfolder.CONFIG).is_file() else "/") for path in shown]
