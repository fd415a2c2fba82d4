"""The arguments of list, wandb, cards, results and completion."""

from paribus import __version__
from paribus.cli.options import Parser, add_config_dir, completes, exit_codes, path
from paribus.core.exit_codes import FAILED, OK

GROUPS = {  # what `paribus list` calls a group of configs -> the group
    "techniques": "technique",
    "models": "model",
    "experiments": "experiment",
    "methods": "method",
    "data": "data",
    "optimizers": "optimizer",
    "schedules": "schedule",
}
SHELLS = ("bash", "zsh", "fish")
DEFAULT_RUNS = "runs"  # the folder of commands that take one of runs
WANDB_PATIENCE = 600  # seconds for a run to be uploaded


def describe_root(parser: Parser) -> None:
    parser.description = "Measure the effect of a vision training technique, all else being equal."
    parser.add_argument("-V", "--version", action="version", version=f"paribus {__version__}", help="print the version")


def describe_list(parser: Parser) -> None:
    parser.description = "List the available configs, and the runs and studies under a folder."
    parser.epilog = (
        "Examples:\n"
        "  paribus list experiments      each with one line on it; likewise for every config group\n"
        "  paribus list techniques --config-dir configs    ours and yours\n"
        "  paribus list runs --json      the runs under ./runs, for other programs"
    )


def add_list_group(parser: Parser) -> None:
    parser.description = "List the configs of a group by name, each with one line on it."
    add_config_dir(parser, "list the configs of this folder too")
    parser.epilog = exit_codes()


def add_list_runs(parser: Parser) -> None:
    parser.description = (
        "List the runs directly under a folder: state, steps, the settings in which they differ, accuracy, time."
    )
    parser.epilog = (
        "Examples:\n"
        "  paribus list runs --metric val/loss --sort val/acc1    another column, the most accurate first\n"
        "  paribus list runs --where technique=cutmix --where state=done\n"
        "  paribus list runs --where lr=0.01 --json               optimizer.lr; its end is enough\n\n"
        + exit_codes({OK: "listed, even if there are none"})
    )
    _add_folder(parser, DEFAULT_RUNS)
    parser.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="show this metric; may be repeated"
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only such runs: a setting, or state=done"
    )
    parser.add_argument("--sort", metavar="METRIC", help="the best first")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, for other programs")


def add_list_studies(parser: Parser) -> None:
    parser.description = "List the studies under a folder, each with its question."
    parser.epilog = exit_codes()
    _add_folder(parser, "experiments")


def _add_folder(parser: Parser, default: str) -> None:
    folder = parser.add_argument(
        "folder", nargs="?", type=path, default=path(default), metavar="FOLDER", help=f"default: {default}"
    )
    completes(folder, "folder")


def add_clean(parser: Parser) -> None:
    parser.description = (
        "List what can go under a folder of runs or data, with sizes: checkpoints of finished runs besides the last "
        "(verify --span then begins at fewer steps), temporary files of writes that were cut off, unfinished packs, "
        "and packs that no version reads. Records, summaries and rows stay, as does everything that is in use, that a "
        "run or a study names, or that is a link."
    )
    parser.epilog = exit_codes({OK: "listed, or removed", FAILED: "something could not be removed"})
    _add_folder(parser, DEFAULT_RUNS)
    parser.add_argument("--yes", action="store_true", help="remove it; without this it is only listed")
    parser.add_argument(
        "--packs", action="store_true", help="with --yes, also packs whose source is gone (or not mounted)"
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON, for other programs")


def describe_wandb(parser: Parser) -> None:
    parser.description = "Upload runs to Weights & Biases from their records."
    parser.epilog = "Example:\n  paribus wandb sync runs    every run under ./runs"


def add_wandb_sync(parser: Parser) -> None:
    parser.description = (
        "Rebuild a run in W&B, or every run under a folder, from events.jsonl. When logged in (wandb login, or "
        "WANDB_API_KEY) it is uploaded, except for the steps that the service already has; otherwise, or with "
        "--offline, a new local record in RUN/wandb replaces the old one. A run that is being trained is skipped. "
        f"Uploading a run times out after {WANDB_PATIENCE} seconds. WANDB_PROJECT, WANDB_ENTITY and W&B's other "
        "variables apply."
    )
    parser.epilog = exit_codes({FAILED: "a run could not be uploaded"})
    run = parser.add_argument("path", type=path, metavar="RUN|FOLDER", help="a run folder, or a folder of them")
    completes(run, "run")
    parser.add_argument("--offline", action="store_true", help="make a local record and upload nothing")


def add_cards(parser: Parser) -> None:
    parser.description = (
        "Check that the technique cards in docs/cards are up to date with the code, print one, or write them. Run it "
        "from the top of a checkout."
    )
    parser.epilog = exit_codes({OK: "up to date, or written", FAILED: "a card is not up to date"})
    name = parser.add_argument("name", nargs="?", metavar="NAME", help="print this technique's card as it should be")
    completes(name, "card")
    parser.add_argument(
        "--write",
        action="store_true",
        help="rewrite the cards that are not up to date; without it they are only checked",
    )


def add_results(parser: Parser) -> None:
    parser.description = (
        "Check that README.md and the README.md of every study under experiments/ agree with the recorded rows. Run it "
        "from the top of a checkout."
    )
    parser.epilog = exit_codes({OK: "up to date, or written", FAILED: "a README.md is not up to date"})
    parser.add_argument(
        "--write", action="store_true", help="write them, and every study's report.html, .csv and .json"
    )


def add_completion(parser: Parser) -> None:
    parser.description = "Print a shell script for tab completion of commands, flags, names and folders."
    parser.epilog = (
        "Enable it with one of:\n"
        '  eval "$(paribus completion bash)"         in ~/.bashrc\n'
        '  eval "$(paribus completion zsh)"          in ~/.zshrc, after compinit\n'
        "  paribus completion fish | source          in ~/.config/fish/config.fish\n\n" + exit_codes()
    )
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="your shell")


def add_complete(parser: Parser) -> None:
    parser.description = "Print the completions of the last word, one per line; the shell scripts call this."
    parser.add_argument("words", nargs="*", metavar="WORD", help="those after `paribus`, the last one unfinished")
