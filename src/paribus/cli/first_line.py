"""The first line of `paribus train`: there before Hydra and torch are imported, which takes seconds."""

import os
from collections.abc import Sequence

# flags beside which the command trains; every other one prints something for a reader or a program
_TRAINS = ("-m", "--multirun")
_TAKE_A_VALUE = ("-cd", "--config-dir", "-cn", "--config-name", "-cp", "--config-path")
_SHOWN = ("experiment", "technique", "seed")


def format_first_line(words: Sequence[str]) -> str | None:
    """What is about to be trained, by the words after `paribus train`; None where the command prints less, or something
    else, and in all processes of a run but the first.

    >>> format_first_line(["experiment=smoke", "seed=3"]), format_first_line(["--cfg", "job"])
    ('paribus train: experiment smoke, seed 3 → composing...', None)
    """
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        return None
    given: dict[str, str] = {}
    flags: list[str] = []
    value_of_flag = False
    for word in words:
        if value_of_flag:
            value_of_flag = False
        elif word.startswith("-"):
            flags.append(word.partition("=")[0])
            value_of_flag = word in _TAKE_A_VALUE
        elif "=" in word:
            key, _, value = word.partition("=")
            given[key] = value
        else:
            return None  # a mistake, which one line will say
    if any(flag not in (*_TRAINS, *_TAKE_A_VALUE) for flag in flags):
        return None
    known = [f"{key} {given[key]}" for key in _SHOWN if given.get(key)]
    sweep = " -m" if set(flags) & set(_TRAINS) else ""
    return f"paribus train{sweep}: {', '.join(known) or 'the default recipe'} → composing..."
