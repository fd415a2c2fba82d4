"""The localisation of an untrained network on a tree with boxes, in one process or as one of several (torchrun)."""

import json
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
import torch

from helpers.image_trees import images
from paribus.core.evaluation import make_context
from paribus.core.protocols import DeviceContext, Spec
from paribus.core.streams import stream, use_generator
from paribus.engine.distributed import destroy_process_group, from_environment, init_process_group
from paribus.engine.evaluate import evaluate
from paribus.evaluators.localisation import Localisation
from paribus.methods.evaluated import PlainNetwork
from paribus.models.convnet import ConvNet


class Method(PlainNetwork):
    def prepare_eval(self) -> None: ...


def measure(root: Path, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Metrics and details, over all processes. An image at a time, so that the network computes the same bits however
    the images are shared."""
    place = DeviceContext(torch.device("cpu"), rank=rank, world=world)
    data = images(root, minival=9, eval_ratio=1.0)(place)
    with use_generator(stream(0, "net")):
        network = ConvNet(widths=(6, 12), norm="none")(Spec(3, 3, 16, 16)).eval()
    evaluator = {"localisation": Localisation(batch_size=1, thresholds=21)}
    found = evaluate(Method(network), evaluator, data.splits, make_context(data, place))  # type: ignore[arg-type]
    return {"metrics": found.metrics, "details": found.details}


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = from_environment()
    init_process_group(here, torch.device("cpu"), 60)
    result = measure(Path(sys.argv[1]), here.rank, here.size)
    destroy_process_group()
    if here.is_main:
        print(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # torch may abort while the interpreter goes down, which is not what is asked here
