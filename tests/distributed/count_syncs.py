"""How often the gradients of one accumulated step are averaged over the ranks: once, whatever the number of parts."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from paribus.core.batch import Batch
from paribus.engine.distributed import destroy_process_group
from paribus.methods.update import GradientStep

accumulate, precision = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo")
calls = [0]


def counted(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    calls[0] += 1
    total = dist.all_reduce(bucket.buffer(), async_op=True).get_future()  # type: ignore[union-attr]
    return total.then(lambda done: done.value()[0] / dist.get_world_size())


def three_steps() -> None:
    """In a function, so that `leave` finds nothing that holds the group on: the process could abort at its end."""
    model = DistributedDataParallel(torch.nn.Linear(4, 3))
    model.register_comm_hook(None, counted)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    update = GradientStep(accumulate=accumulate, precision=precision)  # type: ignore[arg-type]
    n = 8
    batch = Batch(torch.ones(n, 4), torch.zeros(n, dtype=torch.long), torch.arange(n), torch.arange(n), 2 * n, 3)

    def loss_of(part: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return F.cross_entropy(model(part.inputs).float(), part.targets), {}

    for _ in range(3):
        update(loss_of, batch, model, optimizer, update.scaler(torch.device("cpu")))


three_steps()
destroy_process_group()
if calls[0] != 3:  # one bucket, three steps
    sys.exit(f"{calls[0]} averages in 3 steps of {accumulate} parts")
sys.stdout.flush()
os._exit(0)  # torch may abort while the interpreter goes down, which is not what is asked here
