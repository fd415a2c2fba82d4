"""What a run says of itself, as lines: golden text from facts, and the facts of real recipes."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.trainings import composed, recipe_of, workbench
from paribus.core.formatting import format_si
from paribus.core.protocols import Spec
from paribus.engine.distributed import World
from paribus.engine.loop import RunSettings, StepIntervals
from paribus.models.macs import count_macs
from paribus.runs.describe import describe_run, format_object, format_technique, measure_network_size
from paribus.runs.screen import build_panel
from paribus.runs.screen_text import (
    Outcome,
    RunDescription,
    align_rows,
    format_next_commands,
    format_result,
    format_result_line,
    format_rows,
)

FACTS = RunDescription(
    title="cifar10_small_vit-pit+adamp-s3",
    name="cifar10_small_vit",
    seed=3,
    techniques=(("pit", "model.stem=OverlappingStem"), ("adamp", "delta=0.1 wd_ratio=0.1")),
    data="Cifar name=cifar10",
    sizes={"train": 10000, "val": 10000, "minival": 1},
    image=(3, 32, 32),
    classes=10,
    model="ViT depths=[1,2,1]",
    parameters=470123,
    macs=8038080,
    notes=("at matched MACs (+0.13%)",),
    decay=((True, 1, 469000), (False, 30, 1)),
    optimizer="AdamP lr=0.001 weight_decay=0.05",
    schedule="Cosine warmup=1ep",
    others=(("ema", "Ema decay=0.999"),),
    steps=780,
    steps_per_epoch=78,
    batch_size=128,
    device="cuda:0 (NVIDIA H100)",
    precision="bf16",
    threads=1,
    processes=2,
    folder="runs/cifar10_small_vit-pit+adamp-s3-0123456789ab",
    start=78,
)
LINES = """\
  recipe        cifar10_small_vit, seed 3
  technique     pit: model.stem=OverlappingStem
                adamp: delta=0.1 wd_ratio=0.1
  data          Cifar name=cifar10: train 10,000, val 10,000, minival 1 images of 3×32×32, 10 classes
  model         ViT depths=[1,2,1]: 470,123 parameters, 8.04 M MACs
                at matched MACs (+0.13%)
  weight decay  on 1 tensor (469,000 parameters), not on 30 tensors (1 parameter)
  optimizer     AdamP lr=0.001 weight_decay=0.05; Cosine warmup=1ep
  ema           Ema decay=0.999
  length        780 steps of 128 images (10 epochs of 78)
  runs on       cuda:0 (NVIDIA H100), bf16, 1 thread each, 2 processes
  folder        runs/cifar10_small_vit-pit+adamp-s3-0123456789ab
  resumed       after step 78 of 780""".splitlines()

DONE = Outcome(
    title="quickstart-cutmix-s0",
    state="DONE",
    step=660,
    steps=660,
    start=0,
    metrics={
        "train/loss": 1.0,
        "lr": 0.0,
        "val/acc1": 0.98889,
        "val/acc5": 1.0,
        "val/loss": 0.06231,
        "minival/acc1": 0.5,
        "throughput/samples_per_sec": 1.0,
        "memory/peak_gb": 1.0,
        "time/train_s": 8.14,
        "time/eval_s": 0.43,
    },
    seconds=3725.2,
    folder="runs/quickstart-cutmix-s0-0123456789ab",
    seed=0,
    command=("experiment=quickstart", "technique=[cutmix,adamp]", "seed=0"),
)


def test_the_panel_as_lines() -> None:
    assert align_rows(format_rows(FACTS)) == LINES


def test_the_panel_of_a_baseline_that_starts() -> None:
    plain = dataclasses.replace(FACTS, techniques=(), notes=(), others=(), start=0, macs="not counted (ValueError)")
    shown = align_rows(format_rows(dataclasses.replace(plain, processes=1, threads=4, steps=100, steps_per_epoch=80)))
    assert "  technique     none (baseline)" in shown
    assert "  model         ViT depths=[1,2,1]: 470,123 parameters, MACs not counted (ValueError)" in shown
    assert "  length        100 steps of 128 images (1.25 epochs of 80)" in shown
    assert "  runs on       cuda:0 (NVIDIA H100), bf16, 4 threads, 1 process" in shown
    assert not [line for line in shown if "resumed" in line]


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_the_frame_keeps_its_width_and_every_word(width: int) -> None:
    from rich.console import Console

    page = Console(width=width, force_terminal=True, color_system=None)
    with page.capture() as captured:
        page.print(build_panel(FACTS, width))
    lines = captured.get().splitlines()
    assert {len(line) for line in lines} == {width}
    assert FACTS.title in lines[0]
    inside = "".join(line.strip("│╭╮╰╯─ ").replace(" ", "") for line in lines)
    for _, text in format_rows(FACTS):
        assert text.replace(" ", "") in inside


def test_the_result_and_what_follows() -> None:
    assert format_result(DONE) == [
        "done: quickstart-cutmix-s0, 660 steps",
        "  minival  acc1 50.00%",
        "  val      acc1 98.89%  acc5 100.00%  loss 0.0623",
        "  time     8.1 s of training, 0.4 s of evaluation; 1:02:05 in all",
        "  folder   runs/quickstart-cutmix-s0-0123456789ab",
    ]
    assert format_next_commands(DONE) == [
        "next",
        "  evaluate again  paribus eval runs/quickstart-cutmix-s0-0123456789ab",
        "  export weights  paribus export runs/quickstart-cutmix-s0-0123456789ab",
        "  compare         paribus list runs",
        "  another seed    paribus train experiment=quickstart 'technique=[cutmix,adamp]' seed=1",
    ]
    assert format_result_line(DONE) == (
        "done: minival/acc1 50.00%, val/acc1 98.89%, 8.1 s of training; runs/quickstart-cutmix-s0-0123456789ab"
    )
    without = dataclasses.replace(DONE, undecodable=2)
    assert format_result(without)[0].endswith("660 steps; 2 images did not decode (named in summary.json)")
    assert "; 2 images did not decode (named in summary.json); runs/" in format_result_line(without)
    elsewhere = dataclasses.replace(DONE, folder="my runs/a-s0-01", command=())
    assert format_next_commands(elsewhere)[-1] == "  compare         paribus list runs 'my runs'"
    assert format_next_commands(elsewhere)[1] == "  evaluate again  paribus eval 'my runs/a-s0-01'"


@pytest.mark.parametrize(
    ("command", "continued", "tuned"),
    [
        ("a=1 init_from=runs/a steps=8 seed=5", "a=1 steps=8 seed=6", "a=1 init_from=runs/a steps=8 seed=6"),
        (
            "++init_from=runs/a init_from_sha256=0 +seed=5 b=2",
            "b=2 seed=6",
            "++init_from=runs/a init_from_sha256=0 b=2 seed=6",
        ),
        ("experiment=mine seed=5", "experiment=mine init_from=null seed=6", "experiment=mine seed=6"),
    ],
)
def test_another_seed_of_a_continued_run_begins_from_the_beginning(command: str, continued: str, tuned: str) -> None:
    outcome = dataclasses.replace(DONE, seed=5, command=tuple(command.split()))
    assert format_next_commands(outcome)[-1] == f"  another seed    paribus train {tuned}"
    outcome = dataclasses.replace(outcome, continues=True)
    assert format_next_commands(outcome)[-1] == f"  another seed    paribus train {continued}"


def test_the_result_of_a_stopped_run() -> None:
    stopped = dataclasses.replace(DONE, state="PREEMPTED", step=1100, steps=6600, start=500)
    assert format_result(stopped)[0] == "stopped with a checkpoint: quickstart-cutmix-s0, step 1,100 of 6,600"
    assert "  last val      acc1 98.89%  acc5 100.00%  loss 0.0623" in format_result(stopped)
    assert format_result(stopped)[-2].endswith("; 1:02:05 since step 500")
    assert format_next_commands(stopped) == [
        "next",
        "  resume  paribus train experiment=quickstart 'technique=[cutmix,adamp]' seed=0",
    ]
    assert format_next_commands(dataclasses.replace(stopped, command=())) == ["next: the same command again resumes"]


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0"), (999, "999"), (1000, "1.00 k"), (999_499_999, "999 M"), (999_500_000, "1.00 G")]
)
def test_quantities_have_three_digits(n: int, text: str) -> None:
    assert format_si(n) == text


@pytest.mark.parametrize(
    ("overrides", "techniques", "told"),
    [
        ([], ("cutmix",), {"cutmix": "alpha=1 prob=1"}),
        (["transforms.cutmix.prob=0.5"], ("cutmix", "mixup"), {"cutmix": "alpha=1 prob=0.5", "mixup": "alpha=1"}),
        (["optimizer.delta=0.2"], ("adamp",), {"adamp": "optimizer=AdamP delta=0.2 wd_ratio=0.1"}),
        (["optimizer.nesterov=true"], ("adamp",), {"adamp": "optimizer=AdamP delta=0.1 wd_ratio=0.1 nesterov=true"}),
        (["transforms.cutmix.box=timm"], ("cutmix",), {"cutmix": "alpha=1 prob=1 box=timm"}),
        (["optimizer=sgd"], ("sgdp",), {"sgdp": "optimizer=SGDP delta=0.1 wd_ratio=0.1"}),
        (["experiment=smoke_mobile"], ("rexnet",), {"rexnet": "model.plan=LinearPlan"}),
        (["experiment=smoke_vit"], ("pit",), {"pit": "model.stem=OverlappingStem model.pooling=Pooling stride=2"}),
        (["experiment=smoke_vit"], ("pit_pooling",), {"pit_pooling": "model.pooling=Pooling stride=2"}),
        (
            ["experiment=smoke_images"],
            ("fsmr", "ggdr"),
            {"fsmr": "weight=1", "ggdr": "weight=10 reduction=2"},
        ),
    ],
)
def test_techniques_are_told_with_what_they_brought(
    overrides: list[str], techniques: tuple[str, ...], told: dict[str, str]
) -> None:
    smoke = [] if any(o.startswith("experiment=") for o in overrides) else ["experiment=smoke"]
    recipe = recipe_of(*smoke, *overrides, techniques=techniques)
    rules = composed(f"technique=[{','.join(techniques)}]")["overlays"]
    assert {name: format_technique(recipe, rules[name]) for name in recipe.techniques} == told


def test_the_facts_of_a_recipe_are_those_of_what_was_built() -> None:
    recipe = recipe_of("experiment=smoke", "model.norm=batch", "ema.decay=0.9", "update.clip_norm=1.0")
    data, method, _ = workbench(recipe)
    run = RunSettings(Path("runs/x"), recipe.id, 60, 0, StepIntervals(10, 20, 20), 2, World(), torch.device("cpu"))
    facts = describe_run(recipe, {}, run, data, method, measure_network_size(method, data.spec), 8, 0)
    model: nn.Module = method.model  # type: ignore[attr-defined]
    assert facts.parameters == sum(p.numel() for p in model.parameters())
    assert facts.macs == count_macs(model, data.spec)
    assert [decays for decays, _, _ in facts.decay] == [True, False]
    assert sum(tensors for _, tensors, _ in facts.decay) == len(list(model.parameters()))
    assert sum(numbers for _, _, numbers in facts.decay) == facts.parameters
    assert dict(facts.others) == {"ema": "Ema decay=0.9", "update": "GradientStep clip_norm=1"}
    assert all(not p.is_meta and p.requires_grad for p in model.parameters()), "counting leaves the network alone"
    assert format_object(recipe.optimizer) == "AdamW lr=0.01 weight_decay=0.05"
    assert count_macs(model.double(), data.spec) == facts.macs, "the same in any precision"


def test_of_two_networks_each_is_told_with_its_size() -> None:
    recipe = recipe_of("experiment=smoke_images")
    data, method, _ = workbench(recipe)
    run = RunSettings(Path("runs/x"), recipe.id, 60, 0, StepIntervals(10, 20, 20), 2, World(), torch.device("cpu"))
    size = measure_network_size(method, data.spec)
    facts = describe_run(recipe, {}, run, data, method, size, 8, 0)
    parts = method.parts()  # type: ignore[attr-defined]
    sizes = {name: sum(p.numel() for p in part.network.parameters()) for name, part in parts.items()}
    assert (facts.parameters, facts.other_parameters) == (sizes[""], (("discriminator", sizes["discriminator"]),))
    assert size.parameters == sum(sizes.values())
    (model,) = [text for label, text in format_rows(facts) if label == "model"]
    assert model.endswith(
        f": {sizes['']:,} parameters, discriminator {sizes['discriminator']:,}, MACs not counted (it makes images)"
    )


def test_a_run_that_makes_images_says_how_to_see_them() -> None:
    said = "\n".join(format_next_commands(dataclasses.replace(DONE, samples=True)))
    assert "paribus sample runs/quickstart-cutmix-s0-0123456789ab" in said
    assert "paribus sample" not in "\n".join(format_next_commands(DONE))


def test_a_network_that_cannot_be_counted_is_told_so() -> None:
    class Reads(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x.sum().item()

    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(100_000):
                x = x + 1
            return x

    class Around:
        def __init__(self, model: nn.Module | None) -> None:
            self.model = model

    spec = Spec(10, 3, 8, 8)
    assert str(measure_network_size(Around(Reads()), spec).macs).startswith("not counted (")  # type: ignore[arg-type]
    assert measure_network_size(Around(Slow()), spec, limit=1000).macs == "not counted (more than 1,000 operations)"  # type: ignore[arg-type]
    assert measure_network_size(Around(None), spec).macs == "not counted (no single network)"  # type: ignore[arg-type]
