"""ReXNet's claim of speed: milliseconds an image beside EfficientNets of about its published accuracy, on this CPU.

    python scripts/rexnet_latency.py

Ours and timm's networks with the weights they begin with, in evaluation, one image at a time, float32. They take turns
within each round, and ratios are of rounds, so that a change in the machine's mood meets them all. Accuracy is not
measured: by their authors it is 77.9 and 79.5 % on ImageNet for widths 1.0 and 1.3, and 77.3 and 79.2 % for
EfficientNet-B0 and B1.
"""

import argparse
from statistics import median

import timm
import torch
from torch import Tensor, nn

import paribus
from paribus.bench.harness.measure import quartiles
from paribus.bench.harness.timing import Call, host_clock, time_interleaved
from paribus.engine.provenance import cpu_name

# ReXNet's width, timm's name of ours, timm's name of the EfficientNet, pixels a side of the EfficientNet
PAIRS = ((1.0, "rexnet_100", "efficientnet_b0", 224), (1.3, "rexnet_130", "efficientnet_b1", 240))
SIZE = 224


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=0.3, help="the shortest sample")
    return parser.parse_args()


def evaluate(net: nn.Module, size: int) -> Call:
    net, image = net.eval(), torch.randn(1, 3, size, size)

    @torch.inference_mode()
    def call() -> Tensor:
        return net(image)

    return call


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    versions = f"torch {torch.__version__}, timm {timm.__version__}"
    print(f"{cpu_name()}, {options.threads} thread(s), {versions}, one image, fp32")
    print(f"median of {options.rounds} rounds; ratios with their middle half\n")
    print("| network | pixels | ms | for the EfficientNet's |\n| --- | --: | --: | --: |")
    for width, ours, other, size in PAIRS:
        sizes = {f"timm {other} at {size}": size, f"paribus.rexnet({width})": SIZE, f"timm {ours}": SIZE}
        nets = (timm.create_model(other), paribus.rexnet(width), timm.create_model(ours))
        calls = {name: evaluate(net, pixels) for (name, pixels), net in zip(sizes.items(), nets, strict=True)}
        if size != SIZE:
            sizes[f"timm {other} at {SIZE}"] = SIZE
            calls[f"timm {other} at {SIZE}"] = evaluate(nets[0], SIZE)
        times = time_interleaved(calls, host_clock, options.rounds, options.seconds)
        reference = times[next(iter(times))]
        for name, pixels in sizes.items():
            ratios = [a / b for a, b in zip(times[name], reference, strict=True)]
            low, high = quartiles(ratios)
            ratio = f"{median(ratios):.2f} ({low:.2f} to {high:.2f})"
            print(f"| {name} | {pixels} | {1e3 * median(times[name]):.1f} | {ratio} |")


if __name__ == "__main__":
    main()
