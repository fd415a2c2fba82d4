"""Which BatchNorm statistics should an average of the weights be evaluated with? One training, several averages.

    python batchnorm_statistics.py SEED DATA >> batchnorm_statistics.jsonl

The network of the study beside it, of width 32. At 100, 390 and 780 steps, each average is evaluated on 4,096 test
images with its averaged statistics, with the latest network's, and with statistics estimated again from the last 16 and
the last 78 training batches. A `w` after the decay: with warm-up. The lines committed are of seeds 0 to 4.
"""

import copy
import itertools
import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers.trainings import recipe_of, workbench
from paribus.core.progress import Progress
from paribus.engine.evaluate import evaluate
from paribus.methods.ema import WeightAverage
from paribus.recipe.build import build_evaluators

SETTINGS = (
    *(
        "experiment=cifar10_small",
        "model=cifar_resnet",
        "model.depth=8",
        "model.width=32",
        "data.size=16",
        "data.pad=2",
    ),
    *("data.train_size=5000", "batch_size=64", "optimizer=sgd", "optimizer.lr=0.1", "schedule=constant"),
    *("optimizer.weight_decay=5.0e-4", "steps=10ep", "evaluators.unmixed=null"),
)


class Evaluated:
    """A network as evaluators see it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model.eval()

    def prepare_eval(self) -> None:
        pass

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)


def main(seed: int, root: str) -> None:
    torch.set_num_threads(1)
    recipe = recipe_of(*SETTINGS, f"seed={seed}", f"data.root={root}")
    data, method, _ = workbench(recipe)
    loader, evaluators = data.loader(recipe.batch_size, seed), build_evaluators(recipe, data)
    total = 10 * loader.steps_per_epoch
    model: nn.Module = method.model  # type: ignore[attr-defined]
    averages = {
        f"{decay}{'w' * warmup}": WeightAverage(model, decay, warmup, "averaged")
        for decay in (0.99, 0.999)
        for warmup in (False, True)
    }

    def accuracy(network: nn.Module) -> float:
        first = {"val": lambda n: itertools.islice(data.splits["val"](n), 8)}
        return evaluate(Evaluated(copy.deepcopy(network)), evaluators, first)["val/acc1"]  # type: ignore[arg-type]

    def with_latest(average: nn.Module) -> nn.Module:
        network = copy.deepcopy(average)
        for mine, latest in zip(network.buffers(), model.buffers(), strict=True):
            mine.copy_(latest)
        return network

    @torch.no_grad()
    def estimated_again(average: nn.Module, batches: range) -> nn.Module:
        network = copy.deepcopy(average).train()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None  # a plain mean over the batches
        for step in batches:
            network(loader.batch(step).inputs)
        return network

    for step in range(total):
        method.train_step(loader.batch(step), Progress(step, total, seed, loader.steps_per_epoch))
        for average in averages.values():
            average.update(model, step)
        if (done := step + 1) in (100, total // 2, total):
            found = {"plain": accuracy(model)}
            for name, average in averages.items():
                found[f"{name} averaged"] = accuracy(average.module)
                found[f"{name} latest"] = accuracy(with_latest(average.module))
                for n in (16, loader.steps_per_epoch):
                    found[f"{name} estimated {n}"] = accuracy(
                        estimated_again(average.module, range(max(0, done - n), done))
                    )
            print(json.dumps({"seed": seed, "step": done, **found}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
