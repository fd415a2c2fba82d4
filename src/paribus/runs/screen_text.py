"""What a run prints, as lines: description, result, next commands. Pure functions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paribus.core.formatting import format_count, format_seconds, format_si


@dataclass(frozen=True)
class RunDescription:
    """What runs. techniques: name and settings of each. sizes: images of each split. image: channels, height, width.

    parameters: of the recipe's model; other_parameters: of each other network that is trained, by name. macs: of one
    image through all of them, or why they are not known. decay: of each parameter group, whether it decays, its tensors
    and its parameters. others: further parts of the recipe that are not as usual. start: steps done before, by a
    resumed run.
    """

    title: str
    name: str
    seed: int
    techniques: tuple[LabeledText, ...]
    data: str
    sizes: Mapping[str, int]
    image: tuple[int, int, int]
    classes: int
    model: str
    parameters: int
    macs: int | str
    notes: tuple[str, ...]
    decay: tuple[tuple[bool, int, int], ...]
    optimizer: str
    schedule: str
    others: tuple[LabeledText, ...]
    steps: int
    steps_per_epoch: int
    batch_size: int
    device: str
    precision: str
    threads: int
    processes: int
    folder: str
    start: int
    wandb: str = ""
    other_parameters: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a run. metrics: the latest of each. step: of the checkpoint. start: steps done before, by a
    resumed run. seconds: since this start, all included.

    command: the arguments of `paribus train` that run it; () where they are not known. packages: of the recipe, which
    other commands want to be given again. continues: it went on with a shorter run of this seed (`init_from`).
    undecodable: images that did not decode and were done without. samples: it makes images.
    """

    title: str
    state: str
    step: int
    steps: int
    start: int
    metrics: Mapping[str, float]
    seconds: float
    folder: str
    seed: int
    command: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    continues: bool = False
    undecodable: int = 0
    samples: bool = False


def format_rows(description: RunDescription) -> list[LabeledText]:
    """Label and text, in the order of a reader's questions."""
    sizes = ", ".join(f"{split} {n:,}" for split, n in description.sizes.items())
    image = "×".join(map(str, description.image))
    macs = f"{format_si(description.macs)} MACs" if isinstance(description.macs, int) else f"MACs {description.macs}"
    epochs = description.steps / description.steps_per_epoch
    length = f"{format_count(description.steps, 'step')} of {format_count(description.batch_size, 'image')} "
    length += f"({epochs:.4g} {'epoch' if epochs == 1 else 'epochs'} of {description.steps_per_epoch:,})"
    others = "".join(f", {name} {n:,}" for name, n in description.other_parameters)
    techniques = [f"{name}: {settings}" if settings else name for name, settings in description.techniques]
    where = [description.device, description.precision, format_count(description.threads, "thread")]
    if description.processes > 1:
        where[-1] += " each"
    where.append(format_count(description.processes, "process", "processes"))
    return [
        ("recipe", f"{description.name}, seed {description.seed}"),
        *(("technique" if i == 0 else "", text) for i, text in enumerate(techniques or ["none (baseline)"])),
        (
            "data",
            f"{description.data}: {sizes} images of {image}, {format_count(description.classes, 'class', 'classes')}",
        ),
        ("model", f"{description.model}: {format_count(description.parameters, 'parameter')}{others}, {macs}"),
        *(("", note) for note in description.notes),
        ("weight decay", _format_decay(description.decay)),
        ("optimizer", f"{description.optimizer}; {description.schedule}"),
        *description.others,
        ("length", length),
        ("runs on", ", ".join(where)),
        ("folder", description.folder),
        *([("W&B", description.wandb)] if description.wandb else []),
        *([("resumed", f"after step {description.start:,} of {description.steps:,}")] if description.start else []),
    ]


def _format_decay(groups: Sequence[tuple[bool, int, int]]) -> str:
    """Which share of the network decays. The rate is the optimizer's."""
    on = [
        f"on {format_count(tensors, 'tensor')} ({format_count(n, 'parameter')})"
        for decays, tensors, n in groups
        if decays
    ]
    off = [
        f"not on {format_count(tensors, 'tensor')} ({format_count(n, 'parameter')})"
        for decays, tensors, n in groups
        if not decays
    ]
    return ", ".join(on + off)


def align_rows(table: Sequence[LabeledText]) -> list[str]:
    width = max(len(label) for label, _ in table)
    return [f"  {label:<{width}}  {text}" for label, text in table]


def format_evaluations(metrics: Mapping[str, float]) -> dict[str, str]:
    """Split -> its metrics in a line: {"val": "acc1 98.89%  acc5 100.00%  loss 0.0623"}. Accuracies are fractions."""
    texts: dict[str, str] = {}
    for key, value in sorted(metrics.items()):
        split, _, name = key.partition("/")
        if name and split not in _COST_PREFIXES:
            text = f"{name} {value:.2%}" if name.startswith("acc") else f"{name} {value:.4f}"
            texts[split] = f"{texts[split]}  {text}" if split in texts else text
    return texts


def format_result(outcome: Outcome) -> list[str]:
    """The result as lines, the state first."""
    metrics, done = outcome.metrics, outcome.state == "DONE"
    first = f"{'done' if done else 'stopped with a checkpoint'}: {outcome.title}, "
    first += format_count(outcome.steps, "step") if done else f"step {outcome.step:,} of {outcome.steps:,}"
    first += _format_undecodable(outcome)
    times = f"{format_seconds(metrics.get('time/train_s', 0))} of training, "
    times += f"{format_seconds(metrics.get('time/eval_s', 0))} of evaluation; {format_seconds(outcome.seconds)} "
    times += f"since step {outcome.start:,}" if outcome.start else "in all"
    table = [
        *((split if done else f"last {split}", text) for split, text in format_evaluations(metrics).items()),
        ("time", times),
        ("folder", outcome.folder),
    ]
    return [first, *align_rows(table)]


def format_next_commands(outcome: Outcome) -> list[str]:
    """The commands that make sense next."""
    words = [outcome.folder, *([format_packages(outcome.packages)] if outcome.packages else [])]
    run, parent = shlex.join(words), str(Path(outcome.folder).parent)
    table: list[LabeledText] = []
    if outcome.state != "DONE":
        table = [("resume", shlex.join(["paribus", "train", *outcome.command]))] if outcome.command else []
        return ["next", *align_rows(table)] if table else ["next: the same command again resumes"]
    table = [
        ("evaluate again", f"paribus eval {run}"),
        *([("see its images", f"paribus sample {run}")] if outcome.samples else []),
        ("export weights", f"paribus export {run}"),
        ("compare", "paribus list runs" + (f" {shlex.quote(parent)}" if parent != "runs" else "")),
    ]
    if outcome.command:
        table.append(("another seed", shlex.join(["paribus", "train", *_with_next_seed(outcome)])))
    return ["next", *align_rows(table)]


def _with_next_seed(outcome: Outcome) -> list[str]:
    """The command's arguments for one more seed. Weights to fine-tune are kept; those of a shorter run were trained by
    this seed, and the next one trains its own from the beginning."""
    dropped = {"seed", "init_from", "init_from_sha256"} if outcome.continues else {"seed"}
    keys = [argument.partition("=")[0].lstrip("+") for argument in outcome.command]
    other = [a for a, key in zip(outcome.command, keys, strict=True) if key not in dropped]
    if outcome.continues and "init_from" not in keys:  # then a config file names it
        other.append("init_from=null")
    return [*other, f"seed={outcome.seed + 1}"]


def format_packages(packages: Sequence[str]) -> str:
    """As on the command line; "" for none."""
    return f"packages=[{','.join(packages)}]" if packages else ""


def format_result_line(outcome: Outcome) -> str:
    """The result in one line."""
    state = "done" if outcome.state == "DONE" else f"stopped with a checkpoint at step {outcome.step}"
    return f"{state}: {format_brief(outcome.metrics)}{_format_undecodable(outcome)}; {outcome.folder}"


def _format_undecodable(outcome: Outcome) -> str:
    n = outcome.undecodable
    return f"; {format_count(n, 'image')} did not decode (named in summary.json)" if n else ""


def format_brief(metrics: Mapping[str, float]) -> str:
    """The result in a few words."""
    accuracies = [f"{key} {value:.2%}" for key, value in sorted(metrics.items()) if key.endswith("/acc1")]
    return ", ".join([*accuracies, f"{format_seconds(metrics.get('time/train_s', 0))} of training"])


LabeledText = tuple[str, str]


_COST_PREFIXES = ("train", "time", "throughput", "memory")  # first parts of metric names that are no evaluation
