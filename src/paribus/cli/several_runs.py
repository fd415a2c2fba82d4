"""What commands that start several runs at once share: `train -m`, `study run`, `wandb sync` of a folder."""

import os
import sys


def leave_out_wandb_id() -> None:
    """Of several runs at once each gets an id of its own in W&B: under one WANDB_RUN_ID they would be mixed."""
    if os.environ.pop("WANDB_RUN_ID", None):
        print("note: WANDB_RUN_ID is left out: each of several runs gets an id of its own", file=sys.stderr)
