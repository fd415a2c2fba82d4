"""The arguments of the commands that train, and of those that take what was trained (eval, predict, compare, ...)."""

import argparse
from pathlib import Path

from paribus.cli.arguments.gate import add_gate_options
from paribus.cli.options import Parser, add_config_dir, add_direction, completes, count, exit_codes, path, whole_number
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, FAILED, MISMATCH, OK

# the keys of a run's config that may differ from those it was trained with; a dot at the end: all keys below it
EVAL_KEYS = ("data.root", "data.pack", "data.on_error", "data.workers", "packages", "runtime.")
EXPORT_KEYS = ("data.root", "packages")
SAMPLE_KEYS = ("data.root", "packages", "runtime.")
PREDICT_KEYS = ("data.root", "data.pack", "data.workers", "packages", "runtime.")
_TRAINED = "a run folder, one of its checkpoints, or a .safetensors of paribus export"


def add_train(parser: Parser) -> None:
    """For shell completion only: Hydra parses the words of `paribus train`, and cli/train_help.py answers --help."""
    parser.description = "Train, evaluate and record. Hydra composes the recipe; paribus train --help says more."
    parser.epilog = exit_codes()
    completes(parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="config overrides"), "override")
    parser.add_argument("-c", "--cfg", choices=("job",), help="print the composed config instead of training")
    folder = parser.add_argument("-cd", "--config-dir", metavar="DIR", help="a folder with your own configs")
    completes(folder, "folder")
    parser.add_argument("-m", "--multirun", action="store_true", help="train every combination of a,b values")
    parser.add_argument("-q", "--quiet", action="store_true", help="print less")


def add_eval(parser: Parser) -> None:
    parser.description = (
        "Evaluate a trained network again, on its own data or on another data set of the same classes, which are "
        "matched by name, prepared like the run's own. data.root=TREE may have val/ alone, or class folders at its "
        "top."
    )
    parser.epilog = (
        "Overrides: data.root=DIR, data.pack=DIR, data.on_error=skip, data.workers=N, data=NAME with data.KEY=VALUE "
        "(another data set), evaluators=[NAME,...] (instead of the run's), evaluators.NAME.KEY=VALUE, "
        "+evaluators.NAME._target_=CLASS, runtime.KEY=VALUE, packages=[NAME].\n\n"
        f"{exit_codes({OK: 'evaluated', FAILED: 'outputs are NaN'})}"
    )
    completes(_add_run(parser, "RUN|CHECKPOINT|EXPORT", _TRAINED), "data override")
    add_config_dir(parser, "a folder with your own configs, for data=NAME and evaluators=[NAME]")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME",
        help="val, minival or train_sample, instead of the evaluators' own (default: val); may be given again",
    )
    parser.add_argument(
        "--tree-classes",
        action="store_true",
        help="predict among the classes alone that have a folder in data.root, as is usual for ImageNet-A and -R",
    )
    parser.add_argument("--per-class", action="store_true", help="also images, correct ones and accuracy by class")
    parser.add_argument(
        "--confusion",
        action="store_true",
        help="also the confusion matrix: printed for up to 20 classes, always as CSV and PNG in the run folder",
    )
    out = parser.add_argument(
        "--out", type=path, metavar="DIR", help="the folder of the files, which then has a CSV of --per-class too"
    )
    completes(out, "folder")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print a line KEY VALUE for each metric and nothing else"
    )


def add_predict(parser: Parser) -> None:
    parser.description = (
        "Class and probabilities of image files, which are prepared to the bit as in the evaluation of the run. The "
        "run's own data need not be there."
    )
    parser.epilog = (
        "PATH: an image file, or a folder, of which all images are taken, at any depth, ordered by path. Overrides, "
        "after the run: runtime.KEY=VALUE, data.workers=N, packages=[NAME].\n\n"
        + exit_codes({OK: "all files done", FAILED: "a file failed, the others are done"})
    )
    completes(parser.add_argument("run", metavar="RUN|CHECKPOINT|EXPORT", type=path, help=_TRAINED), "run")
    completes(parser.add_argument("paths", nargs="+", metavar="PATH", help="image files and folders of them"), "file")
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="default: csv; jsonl: JSON lines")
    parser.add_argument("--top", type=count, metavar="K", help="the K best classes instead of every class")
    out = parser.add_argument("--out", type=path, metavar="FILE", help="default: standard output")
    completes(out, "file")
    parser.add_argument(
        "--batch-size", type=count, metavar="N", help="images at a time (default: that of the run's evaluation)"
    )


def add_sample(parser: Parser) -> None:
    parser.description = (
        "Images of a trained generator (its averaged weights where the run keeps an average): 000000.png and so on, "
        "and grid.png of the first 400. Image k depends on the weights, the seed, k and its class alone. Data need not "
        "be there."
    )
    parser.epilog = (
        "Overrides: data.root=DIR, runtime.KEY=VALUE, packages=[NAME].\n\n"
        "Examples:\n"
        "  paribus sample runs/NAME --n 100 --classes 3,5    classes in turn, a column each in the grid\n"
        "  paribus sample runs/NAME/checkpoints/step_00000500.pt --out before\n\n"
        + exit_codes({OK: "written", FAILED: "images are NaN"})
    )
    completes(_add_run(parser, "RUN|CHECKPOINT", "a run folder or one of its checkpoints"), _given(SAMPLE_KEYS[:2]))
    parser.add_argument("--n", type=whole_number(1, 1_000_000), default=64, metavar="N", help="images (default: 64)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="S", help="of the noise (default: 0)")
    parser.add_argument(
        "--classes",
        action="append",
        default=[],
        metavar="NAME,...",
        help="names or numbers of the classes, in turn, of a generator that knows them (default: all)",
    )
    out = parser.add_argument("--out", type=path, metavar="DIR", help="default: samples/ in the run folder")
    completes(out, "folder")
    parser.add_argument("--batch-size", type=count, default=64, metavar="N", help="images at a time (default: 64)")


def add_export(parser: Parser) -> None:
    parser.description = (
        "Write the weights of a trained network (averaged ones where the run keeps an average) as safetensors, and "
        "FILE.json beside them: class names, preprocessing, techniques, recipe, seed and metrics; for paribus.load and "
        "plain torch. --pt2 and --onnx write the network itself as well, for programs that have no paribus."
    )
    parser.epilog = f"Overrides: data.root=DIR, packages=[NAME].\n\n{exit_codes({OK: 'written'})}"
    completes(_add_run(parser, "RUN|CHECKPOINT|EXPORT", _TRAINED), _given(EXPORT_KEYS))
    out = parser.add_argument(
        "--out", type=path, metavar="FILE.safetensors", help="default: model.safetensors in the run folder"
    )
    completes(out, "file")
    parser.add_argument("--pt2", action="store_true", help="also FILE.pt2, for torch.export.load, any batch size")
    parser.add_argument("--onnx", action="store_true", help="also FILE.onnx, any batch size; pip install paribus[onnx]")


def add_verify(parser: Parser) -> None:
    parser.description = (
        "Train the run again in a temporary folder, with the recorded threads and kind of device, and compare "
        "the loss of every step, the gradient norms, the checksums of weights and optimizer at checkpoints, and what "
        "events.jsonl, summary.json and the run's row in a study say. Reports bit-exact, within tolerance, or differs "
        "from step t, what differs in the numerics fingerprint, and what could not be compared."
    )
    parser.epilog = (
        "Overrides: data.root=DIR, packages=[NAME], runtime.KEY=VALUE.\n\n"
        "A run of several processes is replayed by as many:\n"
        "  torchrun --nproc-per-node=N -m paribus.cli verify RUN\n\n"
        "A row of a study whose run folder is gone is trained again, whole:\n"
        "  paribus verify experiments/NAME --cell ARM/sN\n"
        "Its metrics and curves have to be the same bits where they are promised (as for --tolerance); elsewhere the "
        "study's metric may be three standard deviations between the arm's other seeds apart, or --tolerance X.\n\n"
        + exit_codes(
            {
                OK: "bit-exact or within tolerance",
                MISMATCH: "the results differ",
                BAD_CONFIG: "there is nothing to verify, or it cannot be replayed",
            }
        )
    )
    completes(_add_run(parser, "RUN", "a run folder, or a study with --cell"), _given(("data.root", "packages")))
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--steps", type=count, metavar="K", help="the first K steps; without this and --span, about a minute's worth"
    )
    length.add_argument("--span", metavar="A:B", help="from the checkpoint at step A to step B; 0: is the whole run")
    parser.add_argument(
        "--tolerance",
        metavar="X",
        help="largest relative difference of a loss or norm that passes (default: 0 where the run is promised to "
        "be bit-exact: with the recorded fingerprint, on a CPU, or on CUDA with runtime=deterministic; elsewhere 1e-3, "
        "for fp64 1e-9, for bf16 and fp16 5e-2, which rounding alone exceeds after enough steps). With --cell: the "
        "largest difference of the study's metric, of an accuracy in points: 1pt",
    )
    study = parser.add_argument(
        "--study",
        type=path,
        metavar="DIR",
        help="a study with a row of this run (default: experiments/NAME for a run in runs/NAME, if there is one)",
    )
    completes(study, "study")
    parser.add_argument("--cell", metavar="ARM/sN", help="RUN is a study: train this cell of it again")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON, for other programs")


def add_compare(parser: Parser) -> None:
    parser.description = "Compare finished runs by their last step, paired by seed, with the statistics of a study."
    add_gate_options(parser, "0, and then nothing can be called equivalent")
    runs = parser.add_argument(
        "runs", nargs="+", type=path, metavar="RUN", help="run folders of one recipe, one a seed"
    )
    others = parser.add_argument(
        "--against", nargs="+", type=path, metavar="RUN", required=True, help="run folders to compare with"
    )
    for action in (runs, others):
        completes(action, "run")
    add_config_dir(parser, "your techniques, for runs that did not record which keys theirs set")
    parser.add_argument("--metric", default="val/acc1", help="the metric to compare (default: val/acc1)")
    add_direction(parser)


def add_plot(parser: Parser) -> None:
    parser.description = (
        "Draw the curves of one run, or of several over each other: a line for each recipe, named by what differs, and "
        "the mean with a band of one standard deviation where runs differ in the seed alone. Runs may still train."
    )
    parser.epilog = (
        "Examples:\n"
        "  paribus plot runs/NAME                                  curves.png in the run folder\n"
        "  paribus plot runs/quickstart-* --metric val/loss --out losses.svg\n\n" + exit_codes({OK: "written"})
    )
    runs = parser.add_argument("runs", nargs="+", type=path, metavar="RUN", help="run folders, or folders of runs")
    completes(runs, "run")
    parser.add_argument(
        "--metric",
        action="append",
        metavar="KEY",
        help="a metric to draw, once for each (default: train/loss and val/acc1)",
    )
    out = parser.add_argument(
        "--out",
        type=path,
        metavar="FILE",
        help=".png, .svg, .pdf or .html (default: curves.png in the run folder, or here for several runs)",
    )
    completes(out, "file")


def _add_run(parser: Parser, metavar: str, text: str) -> argparse.Action:
    """A run and overrides of its config, in any order. Returns the argument of the overrides."""
    completes(parser.add_argument("run", metavar=metavar, help=text), "run")
    return parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings that differ from those of the training"
    )


def _given(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{key}=" for key in keys)


def split_run(args: argparse.Namespace, what: str) -> tuple[Path, list[str]]:
    """The run and the overrides, which may come before it. Raises ConfigError unless there is one run."""
    words = [args.run, *args.overrides]
    runs, overrides = ([word for word in words if ("=" in word) is wanted] for wanted in (False, True))
    if len(runs) != 1:
        raise ConfigError(
            f"one {what} is needed, found {len(runs)}{': ' if runs else ''}{', '.join(runs)}; an override is KEY=VALUE"
        )
    return path(runs[0]), overrides
