"""What rounding ReXNet's channels costs and gains: parameters, multiply-accumulates, images a second, on this machine.

    python scripts/divisor_cost.py                       # CPU, one thread, training and evaluation
    python scripts/divisor_cost.py --device cuda --precision bf16 --batch 256

Prints a Markdown table. The nets take turns within each round, so that a change in the machine's mood meets them all;
ratios are of rounds, and the median round is shown.
"""

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

import paribus
from paribus.core.protocols import Spec
from paribus.models.macs import count_macs


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--divisors", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="steps of each net in a round")
    return parser.parse_args()


def stepper(net: nn.Module, train: bool, options: argparse.Namespace) -> Callable[[], None]:
    """One forward pass in evaluation, or forward and backward pass in training; no optimizer."""
    x = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    x = x.to(memory_format=torch.channels_last)
    autocast = torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.precision == "bf16")

    def step() -> None:
        net.train(train)
        with torch.set_grad_enabled(train), autocast:
            out = net(x)
        if train:
            out.float().square().mean().backward()
            net.zero_grad(set_to_none=True)

    return step


def seconds(step: Callable[[], None], options: argparse.Namespace) -> float:
    def finish() -> None:
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()

    finish()
    start = time.perf_counter()
    for _ in range(options.steps):
        step()
    finish()
    return time.perf_counter() - start


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    spec = Spec(classes=1000, channels=3, height=options.size, width=options.size)
    nets = {}
    for divisor in options.divisors:
        net = paribus.rexnet(options.width, divisor=divisor).to(options.device, memory_format=torch.channels_last)
        nets[divisor] = net
    speeds: dict[bool, dict[int, list[float]]] = {}
    for train in (True, False):
        steps = {divisor: stepper(net, train, options) for divisor, net in nets.items()}
        for step in steps.values():
            seconds(step, options)  # warm-up
        rounds = [{divisor: seconds(step, options) for divisor, step in steps.items()} for _ in range(options.rounds)]
        speeds[train] = {d: [options.batch * options.steps / r[d] for r in rounds] for d in steps}

    processor = torch.cuda.get_device_name() if options.device.startswith("cuda") else cpu_name()
    print(f"ReXNet {options.width:g}, {options.size} pixels, batch {options.batch}, {options.precision}, channels_last")
    print(f"{processor}, {options.threads} thread(s), torch {torch.__version__}, median of {options.rounds} rounds\n")
    print("| divisor | parameters | MACs | training, images/s | ratio | evaluation, images/s | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    first = options.divisors[0]
    for divisor, net in nets.items():
        row = [f"{sum(p.numel() for p in net.parameters()) / 1e6:.3f} M", f"{count_macs(net, spec) / 1e6:.1f} M"]
        for train in (True, False):
            mine, reference = speeds[train][divisor], speeds[train][first]
            ratios = [a / b for a, b in zip(mine, reference, strict=True)]
            row += [f"{median(mine):.1f}", f"{median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"]
        print(f"| {divisor} | {' | '.join(row)} |")


def cpu_name() -> str:
    """The model of the processor, which `platform` leaves empty on Linux."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
