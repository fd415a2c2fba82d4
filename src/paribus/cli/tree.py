"""The tree of commands: their names, one line on each, where their arguments are declared and what runs them.

Dispatch, help and completion all come from here. A command's code is imported when it runs. Its arguments are declared
in cli/arguments/, where nothing heavy is imported, since help and shell completion need no more. `paribus train`
is declared for shell completion only: Hydra parses its words.
"""

import argparse
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from paribus.cli.arguments.others import GROUPS, SHELLS
from paribus.cli.options import Parser, parse
from paribus.core.errors import ConfigError

HELP = ("-h", "--help")
_SHOWN = 54  # columns of the overview for the command line


class Command(NamedTuple):
    """A command, or a sub-command.

    help: one line. arguments: "MODULE:FUNCTION" of paribus.cli.arguments, which declares them on a parser, with a
    description. run: "MODULE:FUNCTION" of paribus.cli, which takes the arguments and returns the exit code; without it
    `run` of the module of that name. commands: its sub-commands, if it has any; then it runs nothing itself. shown: its
    arguments in the overview. more: further lines of the overview, arguments and text. raw: `run` takes the
    words as typed. hidden: for scripts, and not listed.
    """

    name: str
    help: str
    arguments: str
    run: str = ""
    commands: tuple["Command", ...] = ()
    shown: str = ""
    more: tuple[tuple[str, str], ...] = ()
    raw: bool = False
    hidden: bool = False

    def listed(self) -> list[str]:
        return [command.name for command in self.commands if not command.hidden]


_STUDY = (
    Command(
        "plan", "compose and check every cell, print what would run and for how long", "study:add_plan", "study.plan"
    ),
    Command("run", "run every cell that is not done; run again to resume", "study:add_run", "study.run"),
    Command("status", "what is done, running, failed and waiting, by arm", "study:add_status", "study.status"),
    Command("cancel", "cancel the pending and running cells on a cluster", "study:add_cancel", "study.cluster:cancel"),
    Command("import", "import rows of runs from another machine", "study:add_import", "study.import_rows"),
    Command("measure", "evaluators on the kept checkpoints of finished cells", "study:add_measure", "study.measure"),
    Command("noise", "the baseline against itself: what can n seeds see?", "study:add_noise", "study.noise"),
    Command("report", "verdicts, tables and figures from the recorded rows", "study:add_report", "study.report"),
    Command("cell", "train one cell inside a Slurm job", "study:add_cell", "study.cluster:run_cell", hidden=True),
)
_LIST = (
    *(
        Command(name, f"the configs of {group}=NAME", "others:add_list_group", "list:list_group")
        for name, group in GROUPS.items()
    ),
    Command("runs", "the runs under a folder (./runs)", "others:add_list_runs", "list:list_runs"),
    Command("studies", "the studies under a folder (./experiments)", "others:add_list_studies", "list:list_studies"),
)
_DATA = (
    Command("prepare", "check a data set's tree and pack it", "data:add_prepare", "data.prepare"),
    Command("check", "check the tree and its packs", "data:add_check", "data.check"),
    Command("list", "the known data sets, and which are present", "data:add_list", "data.list"),
    Command("label-map", "a network's labels for each place of each image", "data:add_label_map", "data.label_map"),
)
_BENCH = (
    Command("techniques", "each against the installed public ones; minutes", "bench:add_techniques", "bench"),
    Command("loop", "the training loop against the bare step, and where a step's time goes", "bench:add_loop", "bench"),
    Command("data", "training input, images per second, against torchvision's and timm's", "bench:add_data", "bench"),
    Command("start", "seconds from a fresh process to the first step", "bench:add_start", "bench"),
)
_CHECK = (
    Command("technique", "its card, and what every one must hold", "extending:add_check_technique", "check:technique"),
)
_NEW = (
    Command("technique", "a package with a transform, its overlay and a test", "extending:add_new", "new:technique"),
    Command("data", "a dataset class and its config", "extending:add_new", "new:data"),
    Command("study", "a study of two arms", "extending:add_new", "new:study"),
)
_WANDB = (Command("sync", "upload runs to W&B from their records", "others:add_wandb_sync", "wandb"),)

COMMANDS = (
    Command(
        "train",
        "train, evaluate, record; run again to resume; -q for less",
        "trained:add_train",
        shown="experiment=quickstart technique=cutmix",
        more=(("--help [optimizer]", "every setting with its value and meaning; or one group's"),),
        raw=True,
    ),
    Command(
        "eval",
        "evaluate a trained network again, also class by class",
        "trained:add_eval",
        shown="RUN [--per-class] [--confusion] [data.root=DIR]",
    ),
    Command("predict", "class and probabilities of image files", "trained:add_predict", shown="RUN PATH... [--top K]"),
    Command(
        "sample",
        "images of a trained generator, and a grid of them",
        "trained:add_sample",
        shown="RUN [--n N] [--seed S] [--out DIR]",
    ),
    Command(
        "export",
        "weights as safetensors, for paribus.load; also ONNX",
        "trained:add_export",
        shown="RUN [--pt2] [--onnx]",
    ),
    Command(
        "verify",
        "train it again, or a part: is it bit-exact?",
        "trained:add_verify",
        shown="RUN [--steps K | --span A:B]",
    ),
    Command(
        "study",
        "many runs that answer one question; run again to resume",
        "study:describe",
        commands=_STUDY,
        shown="plan|run|status|cancel|import FOLDER",
        more=(
            ("measure FOLDER --evaluators NAMES", "more metrics, on the kept checkpoints of finished cells"),
            ("noise FOLDER", "the baseline against itself: what can n seeds see?"),
            ("report FOLDER", "verdicts, tables, figures; --fail-if makes it a gate"),
        ),
    ),
    Command(
        "compare", "the same statistics for any finished runs", "trained:add_compare", shown="RUN... --against RUN..."
    ),
    Command(
        "judge",
        "a verdict on anybody's numbers: CSV, JSON lines, W&B",
        "judge:add_judge",
        shown="FILE [--against ARM] [--margin M]",
    ),
    Command("plot", "curves of runs as a picture or a page", "trained:add_plot", shown="RUN... [--metric KEY]"),
    Command(
        "wandb",
        "upload a run to Weights & Biases from its record",
        "others:describe_wandb",
        commands=_WANDB,
        shown="sync RUN [--offline]",
    ),
    Command(
        "data",
        "image data sets: check, pack once, list; label maps",
        "data:describe",
        commands=_DATA,
        shown="prepare|check|list|label-map",
    ),
    Command(
        "list",
        "available configs, runs and studies",
        "others:describe_list",
        commands=_LIST,
        shown="techniques|models|experiments|data|runs|studies",
    ),
    Command(
        "new",
        "a template of your own that works at once",
        "extending:describe_new",
        commands=_NEW,
        shown="technique|data|study NAME [--into DIR]",
    ),
    Command(
        "check",
        "does a technique hold what every one must?",
        "extending:describe_check",
        commands=_CHECK,
        shown="technique NAME [--config-dir DIR]",
    ),
    Command(
        "clean", "what runs and packs left that can go; --yes removes it", "others:add_clean", shown="[FOLDER] [--yes]"
    ),
    Command(
        "bench",
        "speed, against the public implementations installed",
        "bench:describe",
        commands=_BENCH,
        shown="techniques|loop|data|start [--quick]",
    ),
    Command(
        "doctor",
        "what this machine has and lacks; gpu: correct, waits, times",
        "doctor:add_doctor",
        shown="[gpu | experiment=NAME ...]",
    ),
    Command(
        "cards",
        "check or rewrite the technique cards of a checkout",
        "others:add_cards",
        shown="[NAME] [--write]",
    ),
    Command("results", "the tables and all reports, from the recorded rows", "others:add_results", shown="[--write]"),
    Command("completion", "a shell script for tab completion", "others:add_completion", shown="|".join(SHELLS)),
    Command(
        "_complete",
        "completions of the last word; the shell scripts call it",
        "others:add_complete",
        "completion:complete",
        raw=True,
        hidden=True,
    ),
)


ROOT = Command("paribus", "the effect of a vision training technique", "others:describe_root", commands=COMMANDS)


def find(words: Sequence[str]) -> tuple[tuple[Command, ...], list[str]]:
    """The commands that words name, the root first, and the words after them. Raises ConfigError for an unknown one."""
    found, rest = (ROOT,), list(words)
    while found[-1].commands and rest and rest[0] not in HELP:
        known = {command.name: command for command in found[-1].commands}
        if rest[0] not in known:
            where = _typed(found)
            what = " ".join([*where.split()[1:], rest[0]])
            there = ", ".join(found[-1].listed())
            raise ConfigError(f"{what}: no such command{_near(rest[0], known)}; there are {there} ({where} --help)")
        found, rest = (*found, known[rest[0]]), rest[1:]
    return found, rest


def _near(word: str, known: Iterable[str]) -> str:
    """ " (did you mean study?)" where something is close."""
    import difflib  # 5 ms, and needed for a mistake alone

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def read(found: tuple[Command, ...], rest: Sequence[str]) -> argparse.Namespace | None:
    """The arguments of a command; None if they ask for help, which has been printed. Raises ConfigError.

    They have `typed` besides: all words after `paribus`.
    """
    args = parse(parser_of(found), rest)
    if args is not None:
        args.typed = [*(command.name for command in found[1:]), *rest]
    return args


def load(command: Command) -> Callable[[Any], int]:
    """What runs a command; its code is imported here."""
    return _import("paribus.cli", command.run or command.name)


def _import(package: str, name: str) -> Callable[[Any], Any]:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"{package}.{module}"), function or "run")


def parser_of(found: tuple[Command, ...]) -> Parser:
    """The parser of a command, with those of its sub-commands. Of the root: the whole tree."""
    parser = Parser(_typed(found))
    _fill(parser, found[-1])
    return parser


def _fill(parser: Parser, command: Command) -> None:
    _import("paribus.cli.arguments", command.arguments)(parser)
    if not command.commands:
        return
    group = parser.add_subparsers(title="commands", metavar="COMMAND")
    for sub in command.commands:
        # argparse lists only those with a help
        made = group.add_parser(sub.name) if sub.hidden else group.add_parser(sub.name, help=sub.help)
        _fill(made, sub)


def _typed(found: tuple[Command, ...]) -> str:
    return " ".join(command.name for command in found)


def overview() -> str:
    """What `paribus` and `paribus --help` print."""
    lines = [
        (f"paribus {command.name} {shown}".rstrip(), text)
        for command in COMMANDS
        if not command.hidden
        for shown, text in ((command.shown, command.help), *command.more)
    ]
    return "\n".join(f"  {shown:<{_SHOWN}}  {text}" for shown, text in lines)
