"""Disturb runs and print a line of docs/reliability.md's table for each kind of trouble:

python tests/chaos/chaos.py [study|ranks|flips|full] [--times N] [--seed S]
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.disturbances import KINDS


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="all if none is given")
    options.add_argument("--times", type=int)
    options.add_argument("--seed", type=int, default=20261126)
    asked = options.parse_args()
    print("| what | done to it | started | results that differ | time |\n| --- | --- | --- | --- | --- |", flush=True)
    bad = False
    for kind in asked.kinds or KINDS:
        disturb, usual = KINDS[kind]
        with tempfile.TemporaryDirectory() as scratch:
            account = disturb(Path(scratch), asked.times or usual, random.Random(asked.seed))
        print(account.line(), flush=True)
        bad = bad or bool(account.different)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
