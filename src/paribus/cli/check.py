"""`paribus check technique NAME`: its card, and the battery of paribus.conformance as a table."""

from __future__ import annotations

import argparse
import difflib
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from paribus.core.errors import ConfigError, to_one_line
from paribus.core.exit_codes import FAILED, OK
from paribus.recipe.configs import list_options
from paribus.recipe.overlays import BASELINE

if TYPE_CHECKING:
    from paribus.conformance.battery import BatteryResult


def technique(args: argparse.Namespace) -> int:
    refuse_unknown(args)
    if words := [word for word in args.overrides if "=" not in word]:
        raise ConfigError(f"check technique: found {' '.join(words)} after {args.name}; an override is KEY=VALUE")
    if any(word.lstrip("+~").startswith("technique=") for word in args.overrides):
        raise ConfigError(f"check technique: found technique= beside {args.name}; each is checked by itself")
    from paribus.conformance.battery import CHECKS, run_battery
    from paribus.conformance.card import find_card
    from paribus.conformance.trainings import make_subject  # torch comes with them

    subject = make_subject((args.name,), tuple(args.overrides), args.config_dir)
    print(f"{find_card(subject) or f'{args.name} has no card: write one at the top of its module'}\n")
    print(f"on {' '.join(subject.overrides)}\n", flush=True)
    width = max(map(len, CHECKS))
    print(f"{'check':<{width}}  {'result':<11}  found")
    outcomes: list[BatteryResult] = []
    for outcome in run_battery(subject):
        outcomes.append(outcome)
        print(f"{outcome.check:<{width}}  {outcome.state:<11}  {to_one_line(outcome.found)}", flush=True)
    print(f"\n{args.name}: {count(outcomes)} in {sum(outcome.seconds for outcome in outcomes):.0f} s")
    return FAILED if any(outcome.state == "failed" for outcome in outcomes) else OK


def refuse_unknown(args: argparse.Namespace) -> None:
    """Raise ConfigError if there is no technique of this name, with those there are and the command that lists them."""
    known = [name for name in list_options("technique", args.config_dir) if name != BASELINE]
    if args.name in known:
        return
    close = difflib.get_close_matches(args.name, known, n=1)
    near = f" (did you mean {close[0]}?)" if close else ""
    own = ["--config-dir", str(args.config_dir)] if args.config_dir else []
    command = shlex.join(["paribus", "list", "techniques", *own])
    more = "" if own else ", and --config-dir DIR adds your own"
    raise ConfigError(
        f"technique={args.name}: there is no such technique{near}; there are {', '.join(known)} ({command} says more"
        f"{more})"
    )


def count(outcomes: Iterable[BatteryResult]) -> str:
    states = [outcome.state for outcome in outcomes]
    return ", ".join(f"{states.count(s)} {s}" for s in ("ok", "failed", "not checked") if s in states)
