"""`paribus verify RUN`: train a recorded run again, or a span of it, and say whether the same bits come out.

What is compared is the run's receipt (engine/receipt.py), and what evaluations found. The run folder is read and never
written.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paribus.cli.options import Parser
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import MISMATCH, OK

if TYPE_CHECKING:
    from paribus.engine.agreement import Difference
    from paribus.runs.replay import ReplayResult

USAGE = "usage: paribus verify RUN [--steps K | --span A:B] [--tolerance X] [--json] [KEY=VALUE ...]"
HELP = f"""\
{USAGE}

Trains the run again in a temporary folder, with the threads and on the kind of device on record, and compares the loss
of every step, the gradient norms, the checksums of weights and optimizer at checkpoints, and the results of
evaluations. Says bit-exact, within tolerance, or differs from step t, and what differs in the numerics fingerprint.

  --steps K      the first K steps; without this and --span, about a minute's worth
  --span A:B     from the checkpoint at step A to step B; 0: is the whole run
  --tolerance X  largest relative difference of a loss or norm that passes. If not given: 0 where bits are promised,
                 under the fingerprint on record, on a CPU, or on CUDA with runtime=deterministic; elsewhere 1e-3
                 (fp64 1e-9, bf16 and fp16 5e-2), which rounding alone outgrows after enough steps
  --json         for programs
  KEY=VALUE      data.root=DIR, packages=[NAME], runtime.KEY=VALUE

A run of several processes is replayed by as many: torchrun --nproc-per-node=N -m paribus.cli verify RUN
Exit codes: 0 bit-exact or within tolerance; 4 it differs; 2 there is nothing to verify, or it cannot be replayed."""


FEW = 10  # steps in which rounding does not grow far


def run(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return OK
    parser = Parser("paribus verify", add_help=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--span")
    parser.add_argument("--tolerance", type=float)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_intermixed_args(arguments)
    paths, overrides = ([word for word in options.words if ("=" in word) is wanted] for wanted in (False, True))
    if len(paths) != 1:
        raise ConfigError(f"one run folder is needed, found {len(paths)}; {USAGE}")
    if options.steps is not None and (options.span or options.steps < 1):
        raise ConfigError("--steps: should be at least 1, and without --span")
    if options.tolerance is not None and not 0 <= options.tolerance < math.inf:
        raise ConfigError(f"--tolerance: found {options.tolerance}; should be 0 or more")
    span = options.span if options.steps is None else f"0:{options.steps}"

    from paribus.engine import distributed
    from paribus.runs.replay import replay_run  # torch comes with it

    try:
        found = replay_run(Path(paths[0]).expanduser(), span, options.tolerance, overrides, USAGE)
    finally:
        distributed.destroy_process_group()
    if distributed.from_environment().is_main:
        print(json.dumps(as_json(found)) if options.json else "\n".join(told(found)))
    return MISMATCH if found.outcome == "differs" else OK


def as_json(v: ReplayResult) -> dict[str, Any]:
    a = v.agreement

    def plain(d: Difference | None) -> dict[str, Any] | None:
        return asdict(d) if d else None

    return {
        "run": str(v.record.folder),
        "verdict": v.outcome,
        "begin": v.begin,
        "end": v.end,
        "compared": {"losses": a.losses, "gradient_norms": a.norms, "checksums": a.checksums, "metrics": a.metrics},
        "differs_from": (a.first_beyond_tolerance or a.first).step if v.outcome == "differs" and a.first else None,
        "first": plain(a.first),
        "beyond": plain(a.first_beyond_tolerance),
        "largest": plain(a.largest),
        "sound": a.last_sound_step,
        "promised": v.is_exact_promised,
        "tolerance": v.tolerance,
        "differences": {key: list(pair) for key, pair in v.differences.items()},
        "seconds": v.seconds,
    }


def told(v: ReplayResult) -> list[str]:
    """The verdict for a person to read."""
    a = v.agreement
    lines = [f"{v.record.folder}: steps {v.begin + 1} to {v.end} of {v.record.end} again, in {v.seconds:.1f} s"]
    counted = f"{a.losses} losses, {a.norms} gradient norms, {a.checksums} checksums of weights and optimizer"
    counted += f" and {a.metrics} results of evaluations"
    if a.first is None:
        lines.append(f"bit-exact: {counted} are equal")
    elif a.first_beyond_tolerance is None:
        largest = f"{a.largest.relative:.2g}, {a.largest.name} at step {a.largest.step}" if a.largest else "0"
        lines.append(f"within tolerance {v.tolerance:g} (largest relative difference {largest}): {counted}")
        lines.append(f"bits differ from step {a.first.step} on")
    else:
        lines.append(f"differs from step {a.first_beyond_tolerance.step}: {_what(a.first_beyond_tolerance)}")
        if a.first_beyond_tolerance != a.first:
            lines.append(f"beyond tolerance {v.tolerance:g} there; bits differ from step {a.first.step} on")
        since = (
            f"were last equal at the checkpoint of step {a.last_sound_step}"
            if a.last_sound_step > v.begin
            else "began equal"
        )
        lines.append(f"weights and optimizer {since}, before step {a.first.step}")
        if a.largest:
            lines.append(
                f"largest relative difference {a.largest.relative:.2g}: {_what(a.largest)}, at step {a.largest.step}"
            )
    return [*lines, *_why(v)]


def _what(d: Difference) -> str:
    if d.relative is None:
        return f"{d.name} was {str(d.then)[:12]} and is {str(d.now)[:12]}"
    return f"{d.name} was {d.then!r} and is {d.now!r}"


def _why(v: ReplayResult) -> list[str]:
    if v.differences:
        width = max(map(len, v.differences))
        rows = [f"  {key:<{width}}  {then} -> {now}" for key, (then, now) in v.differences.items()]
        grown = (
            v.agreement.first_beyond_tolerance is not None
            and v.agreement.first_beyond_tolerance != v.agreement.first
            and v.end - v.begin > FEW
        )
        advice = [f"rounding alone can grow so; --steps {FEW} shows what it does before it has grown"] if grown else []
        return ["what differs from what is on record:", *rows, *advice]
    same = "the numerics fingerprint is the one on record"
    if v.agreement.is_exact:
        return [same]
    if v.is_exact_promised:
        return [f"{same}, under which the bits should be equal: the record, the data or this machine has changed"]
    return [f"{same}, but CUDA without runtime=deterministic promises no bits"]
