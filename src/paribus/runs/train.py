"""`paribus train`, one run: check, build, resume or start, train, record."""

import errno
import sys
import traceback
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Any

import torch

from paribus.core import runfolder
from paribus.core.capabilities import Samples
from paribus.core.duration import in_steps
from paribus.core.errors import ConfigError, RunFailed, explain_exception
from paribus.core.evaluation import make_context
from paribus.core.events import read_events
from paribus.core.exit_codes import OK, REQUEUE
from paribus.core.labels import format_classes, read_class_ids
from paribus.core.protocols import DataSets
from paribus.engine import distributed
from paribus.engine.distributed import World
from paribus.engine.evaluate import check_method, evaluate
from paribus.engine.loop import RunSettings, StepIntervals
from paribus.engine.loop import train as train_loop
from paribus.engine.provenance import fingerprint
from paribus.engine.runtime import apply_runtime
from paribus.engine.stop import StopRequest
from paribus.engine.watch import RankMonitor, monitor_ranks
from paribus.methods.ema import Ema, decay_at
from paribus.methods.schedules import explain_long_warmup
from paribus.recipe.build import (
    build_evaluators,
    build_loader,
    build_method,
    check_normalisation,
    count_steps,
    explain_build_errors,
    explain_one_value,
    make_device_context,
)
from paribus.recipe.files import missing_start_files
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.runs.describe import NetworkSize, describe_optimizer, describe_run, measure_network_size
from paribus.runs.input_grid import write_input_grid
from paribus.runs.kept_images import keep_of_step
from paribus.runs.resume import (
    check_same_classes,
    check_same_images,
    check_start,
    explain_last_checkpoint,
    open_run_folder,
)
from paribus.runs.screen import Screen
from paribus.runs.screen_text import format_brief
from paribus.runs.start import choose_start, describe_start
from paribus.runs.threads import decide_threads, explain_other_count
from paribus.runs.trackers import Trackers, open_trackers


def train(cfg: Any, technique_names: list[str], stop: StopRequest | None = None, screen: Screen | None = None) -> int:
    """Train one composed config to its end and return the exit code. Raises ConfigError before anything is written.

    Joins the process group and stays in it: the jobs of a sweep share one, since torchrun's cannot be joined twice.
    """
    recipe = build_recipe(cfg, technique_names)
    world = distributed.from_environment()
    device = apply_runtime(recipe.runtime, world)
    distributed.init_process_group(world, device, recipe.runtime.timeout)
    with monitor_ranks(world, device) as monitor:
        if distributed.broadcast_from_main(world, lambda: runfolder.read_state(recipe.folder)) == "DONE":
            summary = runfolder.read_json(recipe.folder / runfolder.SUMMARY)
            if getattr(recipe.data, "needs_content_check", False):  # then the recipe does not determine the images
                with explain_build_errors("data"):
                    data = recipe.data(make_device_context(recipe, device, world))
                check_same_images(recipe.folder, summary.get("data_checksum"), data.checksum)
                check_same_classes(recipe.folder, read_class_ids(summary), data.class_ids)
            if world.is_main:
                metrics = summary.get("metrics", {})
                threads = explain_other_count(recipe, world)
                print(
                    f"{screen.prefix if screen else ''}{recipe.folder} is done already: {format_brief(metrics)}; "
                    + (f"{threads}; " if threads else "")
                    + explain_unmeasured(recipe)
                    + "delete it to run again"
                )
            return OK
        rules = cfg.get("overlays") or {}
        return _train(recipe, rules, world, device, stop or StopRequest(), screen or Screen(), monitor)


def explain_unmeasured(recipe: Recipe) -> str:
    """Of a run that is done: the evaluators asked for that it was trained without, which do not make it another run,
    and the command that runs them, with a semicolon; "" if there are none."""
    recorded = runfolder.read_config(recipe.folder).get("evaluators") or {}
    late = [name for name, chosen in recipe.evaluators.items() if chosen is not None and recorded.get(name) is None]
    if not late:
        return ""
    names = ",".join(late)
    return f"it was trained without the evaluators {names}: paribus eval {recipe.folder} evaluators=[{names}]; "


def _train(
    recipe: Recipe,
    rules: Any,
    world: World,
    device: torch.device,
    stop: StopRequest,
    screen: Screen,
    monitor: RankMonitor,
) -> int:
    """Build everything, and only then make the folder, resume and train."""
    place = make_device_context(recipe, device, world)
    missing = missing_start_files(recipe)
    check_start(missing, runfolder.newest_checkpoint_step(recipe.folder) is not None)
    with explain_build_errors("data"):
        data = recipe.data(place)
        loader = build_loader(recipe, data, place)
        evaluators = build_evaluators(recipe, data)
    total, loaded = count_steps(recipe, loader.steps_per_epoch), list[str]()
    start = distributed.broadcast_from_main(world, lambda: choose_start(recipe, data, total, loader.steps_per_epoch))
    with explain_build_errors("model, optimizer or transforms"):
        method = build_method(recipe, data, place, bool(missing) or start.from_checkpoint, say=loaded.append)
        check_normalisation(recipe, method, data, place)
        check_method(method, evaluators, context := make_context(data, place))
    size = measure_network_size(method, data.spec)
    threads, remark = decide_threads(recipe, world, device, size.macs, start.recorded_in)
    torch.set_num_threads(threads)
    run = RunSettings(
        folder=recipe.folder,
        recipe=recipe.id,
        total=total,
        seed=recipe.seed,
        every=compute_intervals(recipe, loader.steps_per_epoch),
        keep=recipe.checkpoints.keep,
        world=world,
        device=device,
        class_ids=data.class_ids,
        class_names=data.names,
    )
    if world.is_main:
        report_on_average(recipe.ema, run.total)
    numerics = fingerprint(recipe.runtime, device, world, describe_optimizer(method), recipe.packages)
    origin = describe_start(recipe, start, loaded, numerics, device)

    def evaluate_and_keep(done: int, is_last: bool) -> dict[str, float]:
        found = evaluate(method, evaluators, data.splits, context, is_last)
        if world.is_main:
            details = keep_of_step(run.folder, done, found.details)
            if is_last and details:
                runfolder.write_json(run.folder / runfolder.EVALUATION, details)
        return found.metrics

    stop.install_handlers()
    with ExitStack() as exit_stack:
        resumed = distributed.broadcast_from_main(
            world, lambda: open_run_folder(recipe, run, numerics, data.checksum, exit_stack, missing, start, origin)
        )
        check_start(missing, resumed is not None)  # missing here, on this rank's machine
        begin = resumed.step if resumed else 0
        if world.is_main:
            for kind, text in (
                ("note", remark),
                ("note", _explain_compiling(recipe) if not screen.quiet else ""),
                ("note", f"init_from: {origin}" if origin and not start.has_begun else ""),
                ("note", start.hint),
                ("warning", explain_long_warmup(recipe.schedule, run.total, loader.steps_per_epoch)),
            ):
                if text:
                    print(f"{kind}: {text}", file=sys.stderr)
            write_input_grid(recipe, data, loader, run.total, place)
            screen.print_start(
                lambda: describe_run(recipe, rules, run, data, method, size, loader.steps_per_epoch, begin, origin)
            )
        tracker = open_trackers(recipe, begin, run.total, screen.quiet) if world.is_main else Trackers([])
        try:
            state = train_loop(run, method, loader, evaluate_and_keep, tracker, stop, resumed)
        except Exception as error:
            if (wrong := explain_one_value(error, recipe)) is not None:  # of a network that runs only with values
                error = ConfigError(wrong)
            failure = monitor.explain_lost_rank(error) or _explain_error(error)
            if world.is_main:
                summary: dict[str, Any] = {}
                with suppress(OSError):  # a full disk takes no marker; the folder then reads as not finished
                    why = failure or f"{explain_exception(error)}\n\n{traceback.format_exc()}"
                    summary = _write_summary(recipe, rules, run, data, size, "FAILED", why)
                with suppress(OSError):
                    tracker.close(summary)
            if failure is not None:
                error_class = (
                    ConfigError if isinstance(error, ConfigError) else RunFailed
                )  # the input was wrong, or the training
                raise error_class(f"{run.folder}: {failure}; {explain_last_checkpoint(run.folder)}") from error
            raise
        except KeyboardInterrupt:  # a second one, from Python: the run goes on from its last checkpoint
            with suppress(Exception):
                tracker.close({})
            raise
        if world.is_main:
            summary = _write_summary(recipe, rules, run, data, size, state)
            tracker.close(summary)
            screen.print_end(summary, run.folder, begin, recipe.packages, isinstance(method, Samples))
    return OK if state == "DONE" else REQUEUE


def _explain_error(error: Exception) -> str | None:
    """An error that the user can act on, in one line; None for a defect, which needs its traceback."""
    if isinstance(error, RunFailed | ConfigError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
        return f"the run folder cannot be written any more: {error.strerror}; make room and run the same command again"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory; use a smaller batch_size, or update.accumulate=N for the same batch in N parts"
    return None


def _explain_compiling(recipe: Recipe) -> str:
    """Why nothing seems to happen at first; no clock, for compiling never takes less."""
    return "runtime.compile: the first step compiles the network, a minute or so" if recipe.runtime.compile else ""


def report_on_average(ema: Any, steps: int) -> None:
    """Say where an average's decay is never reached, or where it will hold a good part of the initial weights."""
    if not isinstance(ema, Ema) or ema.decay is None:
        return
    if (reached := decay_at(steps - 1, ema.decay, ema.warmup)) < ema.decay:
        print(
            f"note: ema.decay={ema.decay} is not reached in {steps} steps: its warm-up ends at {reached:.4g}, "
            "as for every larger decay",
            file=sys.stderr,
        )
    share = ema.share_of_initial_weights(steps)
    if share > 0.01:
        print(
            f"warning: ema.decay={ema.decay} over {steps} steps: {share:.0%} of the average will be the initial "
            "weights; ema.warmup=true, a smaller decay or more steps avoid that",
            file=sys.stderr,
        )


def compute_intervals(recipe: Recipe, steps_per_epoch: int) -> StepIntervals:
    """The intervals of log points, evaluations and checkpoints in steps."""
    log, evaluate, save = (
        in_steps(d, steps_per_epoch) for d in (recipe.every.log, recipe.every.evaluate, recipe.every.checkpoint)
    )
    return StepIntervals(log, evaluate, save)


def _write_summary(
    recipe: Recipe, rules: Any, run: RunSettings, data: DataSets, size: NetworkSize, state: str, why: str = ""
) -> dict[str, Any]:
    """Write the summary from the record, then the state marker: whoever sees DONE finds the result.

    `undecodable` counts the images that this process met and did without since it started, and names the first.
    """
    metrics: dict[str, float] = {}
    events = read_events(run.folder / runfolder.EVENTS)
    for event in events:
        metrics |= event["values"]
    technique_keys = {name: list(rule["sets"]) for name, rule in rules.items() if rule and rule.get("sets")}
    undecodable = data.undecodable()
    summary = {
        **describe_result(recipe, run.total, data, size),
        **({"undecodable": {"count": len(undecodable), "files": list(undecodable[:20])}} if undecodable else {}),
        **({"technique_keys": technique_keys} if technique_keys else {}),
        "state": state,
        "step": events[-1]["step"] if events else 0,
        "metrics": metrics,
    }
    runfolder.write_json(run.folder / runfolder.SUMMARY, summary)
    runfolder.write_state(run.folder, state, why)
    return summary


def describe_result(recipe: Recipe, total: int, data: DataSets, size: NetworkSize) -> dict[str, Any]:
    """What a summary says of the run besides how it went. total: of its steps."""
    return {
        "id": recipe.id,
        "title": recipe.title,
        "name": recipe.name,
        "techniques": list(recipe.techniques),
        "seed": recipe.seed,
        "steps": total,
        "sizes": dict(data.sizes),
        "data_checksum": data.checksum,
        "inputs": {**asdict(data.spec), "mean": list(data.mean), "std": list(data.std)},
        "model": {"parameters": size.parameters, "macs": size.macs if isinstance(size.macs, int) else None},
        **format_classes(data.class_ids, data.names),
    }
