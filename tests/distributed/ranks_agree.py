"""Train with CutMix and AdamP in several processes and compare what each rank holds at the end, bit for bit."""

import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
import torch.distributed as dist

from helpers.trainings import run
from helpers.worlds import COMMON
from paribus.engine.distributed import destroy_process_group
from paribus.methods.supervised import SupervisedTraining
from paribus.recipe import build
from paribus.runs import train

made: list[SupervisedTraining] = []


def keeping(*args: object, **kwargs: object) -> SupervisedTraining:
    made.append(build.build_method(*args, **kwargs))  # type: ignore[arg-type]
    return made[-1]


train.build_method = keeping  # type: ignore[assignment]
code, _ = run(
    Path(sys.argv[1]), *COMMON, "model.norm=group", "optimizer.diagnostics=true", techniques=("cutmix", "adamp")
)
(method,) = made
digest = hashlib.sha256()
for tensor in method.model.state_dict().values():
    digest.update(tensor.numpy().tobytes())
projected = 0.0
for state in method.optimizer.state.values():
    for value in state.values():
        if isinstance(value, torch.Tensor):
            digest.update(value.numpy().tobytes())
seen = method.optimizer.diagnostics()  # type: ignore[attr-defined]
told = (digest.hexdigest(), {name: float(value) for name, value in seen.items()})
everyone: list[object] = [None] * dist.get_world_size()
dist.all_gather_object(everyone, told)
made.clear()
del method  # what holds the group on at the interpreter's end can abort there
destroy_process_group()
if code or any(other != told for other in everyone):
    sys.exit(f"ranks differ: {everyone}")
if not any(value > 0 for value in told[1].values()):
    sys.exit(f"nothing was projected, so nothing was compared: {told}")
sys.stdout.flush()
os._exit(0)  # torch may abort while the interpreter goes down, which is not what is asked here
