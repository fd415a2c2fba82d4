"""The bench: its rule is the authors', its checks notice what is wrong, it takes turns, its table is true."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import adamp as authors
import pytest
import torch
from torch import Tensor

import paribus
from paribus.bench.harness import implementation, timing
from paribus.bench.harness.implementation import (
    Case,
    Implementation,
    PreparedImplementation,
    Scope,
    SpeedTarget,
    Unavailable,
)
from paribus.bench.harness.measure import Measurement, Result, TargetVerdict, measure
from paribus.bench.harness.table import format_page, results_to_dict
from paribus.bench.techniques import any_technique, mixing, networks, optimizer_reference, optimizers
from paribus.bench.techniques import cases as techniques
from paribus.bench.techniques.optimizer_problem import REGIMES, OptimizerProblem, relative_error
from paribus.cli.arguments.bench import TECHNIQUES
from paribus.cli.main import dispatch
from paribus.core.formatting import format_duration

CPU = torch.device("cpu")
SHAPES = [torch.Size(s) for s in ((8, 3, 3, 3), (8, 1, 3, 3), (8,), (6, 8, 1, 1), (6,), (5, 6), (5,), (1, 6, 4, 4))]
ABOUT = {"date": "2026-01-02", "command": "paribus bench techniques", "machine": {"CPU": "x", "GPU": None}}
ABOUT |= {"packages": {"torch": "2", "adamp": None}, "code": "0123"}


def small(technique: str, regime: Any) -> Case:
    return optimizers.make_case(technique, "a few tensors", SHAPES, regime, CPU)


def one(case: Case, name: str, make: Callable[..., torch.optim.Optimizer], technique: str = "adamp") -> Implementation:
    """Another optimizer entered into the case of a few tensors."""
    settings = optimizers.SETTINGS[technique]
    regime = next(r for r in REGIMES if r in case.title)
    problem = OptimizerProblem(SHAPES, regime, settings, CPU)
    _, _, options, step, _ = optimizers._choose_options(technique, settings)

    def build(parameters: Any) -> torch.optim.Optimizer:
        return make(parameters, **options)

    return Implementation(
        name, "paribus", lambda: optimizers.prepare_optimizer(problem, build, lambda: problem.expected_moves(step))
    )


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("technique", ["adamp", "sgdp"])
def test_the_rule_in_float64_is_the_authors_code(technique: str, regime: Any) -> None:
    settings = optimizers.SETTINGS[technique]
    problem = OptimizerProblem(SHAPES, regime, settings, CPU)
    name, _, options, step, _ = optimizers._choose_options(technique, settings)
    parameters = [torch.nn.Parameter(w.double()) for w in problem.weights]
    theirs = getattr(authors, name)(parameters, **options)
    weights, states = [p.detach().clone() for p in parameters], [{} for _ in parameters]
    for k in range(6):
        noise = [n.double() for n in problem.noises[k % 2]]
        for i, p in enumerate(parameters):
            p.grad = optimizers_gradient(regime, p.detach(), noise[i])
        gradients = [p.grad.clone() for p in parameters if p.grad is not None]
        weights = [step(w, g, s, k + 1, settings) for w, g, s in zip(weights, gradients, states, strict=True)]
        theirs.step()
        assert max(relative_error(p.detach(), w) for p, w in zip(parameters, weights, strict=True)) < 1e-12


def optimizers_gradient(regime: Any, weight: Tensor, noise: Tensor) -> Tensor:
    from paribus.bench.techniques.optimizer_problem import gradient

    return gradient(regime, weight, noise)


@pytest.mark.parametrize("network", [optimizers.rexnet, lambda: SHAPES], ids=["rexnet", "a few"])
def test_each_regime_is_what_it_is_called(network: Callable[[], list[torch.Size]]) -> None:
    shapes = network()
    nothing, everything = (
        OptimizerProblem(shapes, r, optimizers.SETTINGS["adamp"], CPU).count_projected() for r in REGIMES
    )
    assert (nothing, everything) == (0, sum(len(s) > 1 for s in shapes))


@pytest.mark.parametrize("technique", ["adamp", "sgdp"])
def test_the_timed_steps_leave_the_weights_and_so_the_regime(technique: str) -> None:
    problem = OptimizerProblem(SHAPES, REGIMES[1], optimizers.SETTINGS[technique], CPU)
    name, _, options, step, _ = optimizers._choose_options(technique, problem.settings)
    kept: list[Any] = []

    def make(parameters: Any) -> torch.optim.Optimizer:
        kept.extend(parameters)
        return getattr(paribus, name)(parameters, **options)

    ready = optimizers.prepare_optimizer(problem, make, lambda: problem.expected_moves(step))
    assert ready.error() < optimizers.TOLERANCE
    for _ in range(200):
        ready.call()
    for p, w in zip(kept, problem.weights, strict=True):
        assert relative_error(p.detach(), w.double()) < 1e-9
        assert (optimizer_reference.find_passing_view(p.detach(), p.grad, problem.settings) is not None) == (p.ndim > 1)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("technique", ["adamp", "sgdp"])
def test_every_implementation_here_is_right_and_timed(technique: str, regime: Any) -> None:
    result = measure(small(technique, regime), CPU, rounds=2, min_seconds=1e-4)
    assert result.is_correct
    assert all(len(row.seconds) == 2 for row in result.rows if row.status == "measured")
    assert {row.name for row in result.rows if row.status == "measured"} > {
        f"paribus.{'AdamP' if technique == 'adamp' else 'SGDP'}",
        f"adamp.{'AdamP' if technique == 'adamp' else 'SGDP'}",
    }


MUTANTS = {
    "never projects": lambda p, **o: paribus.AdamP(p, **o, delta=0.0),
    "decays in full": lambda p, **o: paribus.AdamP(p, **o, wd_ratio=1.0),
    "timm's factory": lambda p, **o: authors.AdamP(p, **o, wd_ratio=0.01, nesterov=True),
    "forgets to decay": lambda p, **o: authors.AdamP(p, **{**o, "weight_decay": 0.0}),
    "becomes NaN": lambda p, **o: authors.AdamP(p, **{**o, "lr": float("nan")}),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_negative_control_a_wrong_optimizer_is_called_wrong_and_not_timed(mutant: Callable[..., Any]) -> None:
    case = small("adamp", REGIMES[1])
    result = measure(replace(case, implementations=(one(case, "mutant", mutant),), targets=()), CPU, 2, 1e-4)
    assert result.row("mutant").status == "wrong"
    assert result.row("mutant").seconds == ()
    assert not result.is_correct


def fixed(seconds: float, error: float = 0.0, note: str = "") -> Callable[[], PreparedImplementation]:
    return lambda: PreparedImplementation(lambda: error, lambda: seconds, note)


def absent(status: Any, reason: str = "") -> Callable[[], PreparedImplementation]:
    def prepare() -> PreparedImplementation:
        raise Unavailable(status, reason)

    return prepare


def made(**prepared: Callable[[], PreparedImplementation]) -> Case:
    contenders = tuple(Implementation(name, "torch", make, "public") for name, make in prepared.items())
    return Case("cutmix", "a case", "Nothing.", "zero", 0.5, contenders)


def broken() -> PreparedImplementation:
    raise RuntimeError("somebody else's bug\nin two lines")


def falls_back() -> PreparedImplementation:
    warnings.warn("no compiler, so the slow path is taken", stacklevel=1)
    return PreparedImplementation(lambda: 0.0, lambda: None)


def test_what_cannot_be_had_is_a_row_and_no_error() -> None:
    case = made(here=fixed(0), gone=absent("not installed"), later=absent("not available", "no fused=True"))
    result = measure(case, CPU, 1, 0)
    assert [row.status for row in result.rows] == ["measured", "not installed", "not available"]
    assert result.is_correct


def test_what_breaks_or_falls_back_says_so() -> None:
    result = measure(made(broken=broken, slow=falls_back), CPU, 1, 0)
    assert result.row("broken").status == "failed"
    assert result.row("broken").note == "RuntimeError: somebody else's bug in two lines"
    assert result.row("slow").note == "no compiler, so the slow path is taken"
    assert not result.is_correct


def test_a_path_this_version_lacks_is_not_available_but_a_broken_default_is_an_error() -> None:
    def refuses(parameters: Any, **options: Any) -> torch.optim.Optimizer:
        raise ValueError("not available yet")

    with pytest.raises(Unavailable, match="no fused=True"):
        optimizers._paribus_optimizer(refuses, {}, fused=True)([])
    with pytest.raises(ValueError, match="not available yet"):
        optimizers._paribus_optimizer(refuses, {})([])


@pytest.mark.parametrize("missing", ["adamp", "timm", "torchvision"])
def test_a_missing_package_is_a_row(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = implementation.version
    monkeypatch.setattr(implementation, "version", lambda package: None if package == missing else known(package))
    cases = [small("adamp", REGIMES[0]), mixing.make_case("cutmix", 8, 4, 10, torch.contiguous_format, Scope(CPU))]
    rows = [row for case in cases for row in measure(case, CPU, 1, 0).rows if row.package == missing]
    assert rows
    assert {row.status for row in rows} == {"not installed"}


IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
IDENTITY = torch.eye(6)


def pasted(partners: list[int], share: float | None = None, box: tuple[int, int, int, int] = (1, 2, 5, 7)) -> Any:
    top, left, bottom, right = box
    mixed = IMAGES.clone()
    mixed[:, :, top:bottom, left:right] = IMAGES[partners][:, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / 64 if share is None else share
    return mixed, share * IDENTITY + (1 - share) * IDENTITY[partners]


def test_the_check_of_cutmix_takes_one_box_of_one_partner_weighed_by_its_area() -> None:
    assert mixing.cutmix_error(IMAGES, *pasted([5, 4, 3, 2, 1, 0])) < 1e-6
    assert mixing.cutmix_error(IMAGES, *pasted([0, 2, 1, 3, 5, 4])) < 1e-6
    assert mixing.cutmix_error(IMAGES, *pasted([1, 2, 3, 4, 5, 0], box=(3, 3, 3, 8))) < 1e-6  # an empty box


def test_negative_control_the_check_of_cutmix_notices() -> None:
    partners = [5, 4, 3, 2, 1, 0]
    mixed, weights = pasted(partners)
    assert mixing.cutmix_error(IMAGES, *pasted(partners, share=0.5)) > 0.1  # not corrected for clipping
    two_boxes = mixed.clone()
    two_boxes[:, :, 7, 0] = IMAGES[partners][:, :, 7, 0]
    for wrong in (two_boxes, mixed + 1e-6, pasted([1, 2, 3, 4, 5, 0])[0], mixed[:, :, :4]):
        assert mixing.cutmix_error(IMAGES, wrong, weights) == float("inf")
    for wrong in (weights * 0.9, 0.5 * weights + 0.5 * IDENTITY[[1, 2, 3, 4, 5, 0]], 2 * weights - IDENTITY):
        assert mixing.cutmix_error(IMAGES, mixed, wrong) > 0.05


def test_negative_control_the_check_of_mixup_notices() -> None:
    partners = [5, 4, 3, 2, 1, 0]
    weights = 0.7 * IDENTITY + 0.3 * IDENTITY[partners]
    right = 0.7 * IMAGES + 0.3 * IMAGES[partners]
    assert mixing.mixup_error(IMAGES, right, weights) < 1e-6
    assert mixing.mixup_error(IMAGES, 0.6 * IMAGES + 0.4 * IMAGES[partners], weights) > 1e-2
    assert mixing.mixup_error(IMAGES, 0.7 * IMAGES + 0.3 * IMAGES[[1, 2, 3, 4, 5, 0]], weights) > 1e-2
    assert mixing.mixup_error(IMAGES, right, weights * 0.9) == float("inf")


def test_negative_control_a_mixer_that_never_mixes_is_wrong() -> None:
    lazy = mixing.prepare_mixer("cutmix", lambda classes: lambda x, y: (x, torch.eye(classes)[y]), IMAGES, 10)
    assert lazy.error() == float("inf")


@pytest.mark.parametrize("technique", ["cutmix", "mixup"])
@pytest.mark.parametrize("form", mixing.FORMATS)
def test_every_mixer_here_is_right_and_timed(technique: Any, form: torch.memory_format) -> None:
    result = measure(mixing.make_case(technique, 16, 6, 10, form, Scope(CPU)), CPU, 2, 1e-4)
    assert result.is_correct
    measured = {row.name for row in result.rows if row.status == "measured"}
    assert measured >= {f"paribus.{technique}", *mixing.PEERS[technique]}


SMALL_NETWORKS = [
    networks.Network("rexnet", "ReXNet", paribus.rexnet, {"dropout": 0.0}, "rexnet_100", 32, 2),
    networks.Network("pit", "PiT-Ti", paribus.pit, {"variant": "ti"}, "pit_ti_224", 224, 1),
]


@pytest.mark.parametrize("network", SMALL_NETWORKS, ids=lambda n: n.technique)
def test_both_networks_are_right_and_timed(network: networks.Network) -> None:
    result = measure(networks.make_case(network, Scope(CPU)), CPU, 1, 0)
    assert [row.status for row in result.rows] == ["measured", "measured"], result.rows
    assert result.case.numbers["parameters"] in (4_796_873, 4_847_272)


def test_a_network_this_version_cannot_make_is_not_available() -> None:
    case = networks.make_case(replace(SMALL_NETWORKS[0], arguments={"no_such_argument": 1}), Scope(CPU))
    with pytest.raises(Unavailable, match="cannot make it"):
        case.implementations[0].prepare()


def test_negative_control_a_network_with_another_forward_is_wrong() -> None:
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.net = 1.001, paribus.rexnet(dropout=0.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) * self.scale

    problem = networks.NetworkProblem(SMALL_NETWORKS[0], Scope(CPU))
    wrong = Scaled()
    paribus.load_timm_weights(wrong.net, problem.timm_model.state_dict())
    assert networks.relative_error(problem.logits(wrong.net), problem.truth[0]) < 1e-5
    assert networks.relative_error(problem.logits(wrong), problem.truth[0]) > networks.TOLERANCE


def test_implementations_take_turns_in_changing_order() -> None:
    calls: list[str] = []
    ticking = {name: lambda name=name: calls.append(name) for name in "abc"}

    def clock(call: Callable[[], object], times: int) -> float:
        call()
        return 0.001 * times

    samples = timing.time_interleaved(ticking, clock, rounds=8, min_seconds=0.004)
    assert samples == {name: (0.001,) * 8 for name in "abc"}
    rounds = ["".join(calls[i : i + 3]) for i in range(6, len(calls), 3)]  # after warm-up and the first look
    assert len(rounds) == 8
    assert all(sorted(one_round) == ["a", "b", "c"] for one_round in rounds)
    assert len(set(rounds)) > 2


def test_a_sample_lasts_long_enough_to_be_measured() -> None:
    asked: list[int] = []

    def clock(call: Callable[[], object], times: int) -> float:
        asked.append(times)
        return 0.003 * times

    timing.time_interleaved({"a": lambda: None}, clock, rounds=1, min_seconds=0.02)
    assert asked[-1] == 7


def test_what_is_said_of_any_technique_is_two_sentences() -> None:
    (case,) = any_technique.cases("cutout", None, Scope(CPU))
    page = format_page(results_to_dict([Result(case, ())], ABOUT))
    assert "on a batch that is there already. Error: 0 where the loss is finite; at most 0." in page


def rows_of(**seconds: tuple[float, ...]) -> Result:
    rows = tuple(Measurement(name, "torch", "public", "2", "measured", 0.0, times) for name, times in seconds.items())
    return Result(replace(made(), targets=(SpeedTarget("a", "b", 0.5, "half of b"),)), rows)


def test_ratios_are_of_rounds_so_a_drift_cancels() -> None:
    (verdict,) = rows_of(a=(1.0, 10.0, 100.0), b=(4.0, 40.0, 400.0)).verdicts
    assert verdict.ratio == 0.25
    assert verdict.status == "met"


@pytest.mark.parametrize(
    ("ratio", "half", "status"),
    [
        (0.4, (0.3, 0.45), "met"),
        (0.5, (0.4, 0.6), "met (within the spread)"),
        (0.6, (0.55, 0.7), "missed by 20%"),
        (0.6, (0.45, 0.7), "missed by 20% (within the spread)"),
        (0.502, (0.501, 0.7), "missed by 0.4%"),
        (None, None, "not measured"),
    ],
)
def test_a_target_says_how_far_it_is(ratio: Any, half: Any, status: str) -> None:
    assert TargetVerdict(SpeedTarget("a", "b", 0.5, ""), ratio, half).status == status


def test_the_baseline_is_the_fastest_public_row_or_the_one_named() -> None:
    result = rows_of(a=(1.0,), b=(2.0,))
    assert result.baseline is result.rows[0]
    assert replace(result, case=replace(result.case, baseline="b")).baseline is result.rows[1]
    assert replace(result, case=replace(result.case, baseline="c")).baseline is None


def test_the_page_shows_what_was_measured() -> None:
    result = rows_of(a=(0.002, 0.002), b=(0.004, 0.004))
    gone = Measurement("gone", "adamp", "public", None, "not installed")
    page = format_page(results_to_dict([replace(result, rows=(*result.rows, gone))], ABOUT))
    assert "* CPU x\n* torch 2, adamp not installed; source of paribus 0123" in page
    assert "| implementation | version | error | time | middle half | ratio | note |" in page
    assert "| `b` | torch 2 | 0.0e+00 | 4 ms | 4 ms–4 ms | 2.00 |  |" in page
    assert "| `gone` | adamp |  |  |  |  | not installed |" in page
    assert "| a case | `a`: half of b | 0.50 | ≤ 0.50 | met (within the spread) |" in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.01234, "12.3 ms"), (9.9e-7, "990 ns"), (1.5e-5, "15 µs"), (1234.5, "1234 s")],
)
def test_durations_have_a_unit_that_suits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_command_writes_page_and_data(tmp_path: Path) -> None:
    page, data = tmp_path / "t.md", tmp_path / "t.json"
    options = [
        "--quick",
        "--threads",
        "1",
        "--repeats",
        "2",
        "--device",
        "cpu",
        "--out",
        str(page),
        "--json",
        str(data),
    ]
    assert dispatch(["bench", "techniques", "mixup", *options]) == 0
    found = json.loads(data.read_text())
    assert page.read_text() == format_page(found)
    assert found["machine"]["threads"] == 1
    assert next(row["name"] for row in found["cases"][0]["rows"]) == "paribus.mixup"
    assert all(len(row["samples"]) == 2 for row in found["cases"][0]["rows"])


def test_a_wrong_result_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(techniques.CASES, "cutmix", lambda scope: iter([made(right=fixed(0), off=fixed(0, error=0.6))]))
    assert dispatch(["bench", "techniques", "cutmix", "--threads", "1", "--device", "cpu", "--repeats", "1"]) == 1
    assert "| `off` | torch " in capsys.readouterr().out


def test_the_command_knows_every_technique_of_the_bench() -> None:
    assert tuple(techniques.CASES) == TECHNIQUES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loops"], "bench loops: no such command (did you mean loop?); there are techniques, loop, data, start"),
        (["techniques", "cutmux"], "no bench of cutmux"),
        (["techniques", "--threads", "0"], "at least 1"),
        (["techniques", "--repeats", "x"], "at least 1"),
        (["techniques", "--device", "tpu"], "device"),
        (["techniques", "--fast"], "--fast"),
        (["techniques", "--out", "no/such/folder/t.md"], "is not a folder"),
    ],
)
def test_wrong_input_is_told_in_one_line(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["bench", *arguments]) == 2
    told = capfd.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("arguments", [["bench"], ["bench", "--help"], ["bench", "techniques", "--help"]])
def test_help_is_there(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(arguments) == 0
    assert "paribus bench techniques" in capsys.readouterr().out


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("technique", ["cutmix", "adamp", "sgdp"])
def test_on_cuda_times_are_the_devices_and_memory_is_told(technique: Any) -> None:
    device = torch.device("cuda", 0)
    case = (
        mixing.make_case(technique, 32, 16, 10, torch.channels_last, Scope(device))
        if technique == "cutmix"
        else optimizers.make_case(technique, "a few tensors", SHAPES, REGIMES[1], device)
    )
    result = measure(case, device, 3, 1e-3)
    measured = [row for row in result.rows if row.status == "measured"]
    assert len(measured) >= 2
    assert result.is_correct
    assert all(0 < row.median < 1 and row.peak is not None and row.peak >= 0 for row in measured)
