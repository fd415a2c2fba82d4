"""AdamP and SGDP where other implementations break: layouts, precisions, edge shapes, states, and waiting for the
device. The maths itself is held by tests/parity/test_adamp.py.
"""

import copy
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adamp as authors
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import paribus
from helpers.gpus import no_waits
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError
from paribus.core.protocols import ParameterGroup
from paribus.core.streams import stream
from paribus.recipe.configs import find_config_folder
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.techniques.adamp import SGDP, AdamP, AdamPOptimizer, SGDPOptimizer, projection

SHAPES = [(6, 4, 3, 3), (5, 7), (9,), (), (0, 3), (4, 0)]


def numbers(*shape: int, key: str = "", dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=stream(0, "unit-adamp", key, *shape), dtype=torch.float64).to(dtype)


def parameters(dtype: torch.dtype = torch.float32, shapes: list[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    return [nn.Parameter(numbers(*shape, dtype=dtype)) for shape in shapes]


def give_gradients(made: list[nn.Parameter], step: int) -> None:
    for p in made:
        p.grad = numbers(*p.shape, key=str(step), dtype=p.dtype)


def stepped(
    make: Callable[..., torch.optim.Optimizer], made: list[nn.Parameter], start: int = 0, stop: int = 5
) -> torch.optim.Optimizer:
    optimizer = make(made)
    for step in range(start, stop):
        give_gradients(made, step)
        optimizer.step()
    return optimizer


def adamp(params: Any, **options: Any) -> AdamP:
    return AdamP(params, **{"lr": 0.01, "weight_decay": 0.1, "delta": 0.5, **options})


def sgdp(params: Any, **options: Any) -> SGDP:
    return SGDP(params, **{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "delta": 0.5, **options})


both = pytest.mark.parametrize("make", [adamp, sgdp])


def same(a: list[nn.Parameter], b: list[nn.Parameter]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# The projection itself


def test_a_projected_update_is_at_right_angles_to_every_row_and_an_unprojected_one_is_untouched() -> None:
    w, g, u = (numbers(6, 4, 3, 3, key=k, dtype=torch.float64) for k in "wgu")
    before = [x.clone() for x in (w, g, u)]
    always, ratio, *_ = projection(u, g, w, float("inf"), 0.1, 1e-8)
    assert float((always * w).sum((1, 2, 3)).abs().max()) < 1e-6  # eps in the length leaves 2e-8 of it
    assert float(ratio) == 0.1
    never, ratio, *_ = projection(u, g, w, 0.0, 0.1, 1e-8)
    assert torch.equal(never, u)
    assert float(ratio) == 1.0
    assert all(torch.equal(x, old) for x, old in zip((w, g, u), before, strict=True))


def test_the_layer_view_takes_out_one_direction_for_the_whole_tensor() -> None:
    w, u = (numbers(6, 8, key=k, dtype=torch.float64) for k in "wu")
    g = numbers(6, 8, key="g", dtype=torch.float64)
    g -= w * (g * w).sum() / (w * w).sum()  # orthogonal as a whole, not row by row
    projected, ratio, *_ = projection(u, g, w, 0.1, 0.1, 1e-8)
    assert abs(float((projected * w).sum())) < 1e-6
    assert float((projected * w).sum(1).abs().min()) > 1e-3
    assert float(ratio) == 0.1


def test_a_matrix_without_gradient_counts_as_orthogonal_as_in_the_authors_code() -> None:
    w, u = numbers(6, 8, key="w"), numbers(6, 8, key="u")
    assert float(projection(u, torch.zeros_like(w), w, 0.1, 0.1, 1e-8)[1]) == pytest.approx(0.1)


@pytest.mark.parametrize(("make", "plain"), [(SGDP, torch.optim.SGD), (AdamP, torch.optim.Adam)])
def test_the_norm_of_a_scale_invariant_weight_grows_less(make: Any, plain: Any) -> None:
    """The paper's own example: minimise -cos(w, w*)."""

    def final_norm(kind: Any, **options: Any) -> float:
        w = nn.Parameter(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
        target = torch.tensor([[-0.6, 0.8]], dtype=torch.float64)
        optimizer = kind([w], lr=0.1, **options)
        for _ in range(100):
            optimizer.zero_grad()
            (-torch.cosine_similarity(w, target).sum()).backward()
            optimizer.step()
        assert torch.cosine_similarity(w, target).item() > 0.99
        return float(w.detach().norm())

    momentum = {"momentum": 0.9} if make is SGDP else {}
    assert final_norm(make, **momentum) - 1 < 0.5 * (final_norm(plain, **momentum) - 1)


# Layouts, shapes, precisions


@both
def test_channels_last_gives_the_same_update(make: Any) -> None:
    ordinary = parameters(torch.float64, [(6, 4, 3, 3)])
    other = [nn.Parameter(ordinary[0].detach().clone(memory_format=torch.channels_last))]
    stepped(make, ordinary)
    stepped(make, other)
    assert other[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(other[0], ordinary[0], rtol=1e-12, atol=1e-14)


@both
def test_empty_and_scalar_tensors_are_taken(make: Any) -> None:
    made = parameters()
    before = [p.detach().clone() for p in made]
    stepped(make, made)
    for p, old in zip(made, before, strict=True):
        assert p.shape == old.shape
        assert bool(p.isfinite().all())
        assert p.numel() == 0 or not torch.equal(p, old)


@both
def test_a_parameter_without_gradient_is_left_alone(make: Any) -> None:
    made = parameters()
    optimizer = make(made)
    give_gradients(made, 0)
    made[1].grad = None
    before = made[1].detach().clone()
    optimizer.step()
    assert torch.equal(made[1], before)
    assert made[1] not in optimizer.state


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_float32_step_rounded_once(make: Any, dtype: torch.dtype) -> None:
    half = parameters(dtype)
    single = [nn.Parameter(p.detach().float()) for p in half]
    optimizers = make(half), make(single)
    for step in range(3):
        give_gradients(half, step)
        for p, q in zip(half, single, strict=True):
            assert p.grad is not None
            q.data.copy_(p.detach())
            q.grad = p.grad.float()
        for optimizer in optimizers:
            optimizer.step()
        assert same(half, [nn.Parameter(q.detach().to(dtype)) for q in single])
    assert all(s.dtype == torch.float32 for state in optimizers[0].state.values() for s in state.values())


def test_float16_stays_finite_where_the_authors_code_does_not() -> None:
    mine, theirs = (parameters(torch.float16, [(6, 4)]) for _ in range(2))
    for kind, made in ((AdamP, mine), (authors.AdamP, theirs)):
        made[0].grad = torch.zeros_like(made[0])
        kind(made).step()
    assert bool(mine[0].isfinite().all())
    assert bool(theirs[0].isnan().any())


@both
def test_maximize_climbs(make: Any) -> None:
    down, up = parameters(), parameters()
    stepped(make, down)
    optimizer = make(up, maximize=True)
    for step in range(5):
        give_gradients(up, step)
        for p in up:
            assert p.grad is not None
            p.grad.neg_()
        optimizer.step()
    assert same(up, down)


@both
@pytest.mark.parametrize("shape", [(), (1,)])
def test_lr_may_be_a_tensor(make: Any, shape: tuple[int, ...]) -> None:
    as_number, as_tensor = parameters(torch.float64), parameters(torch.float64)
    stepped(lambda p: make(p, lr=0.02), as_number)
    stepped(lambda p: make(p, lr=torch.full(shape, 0.02, dtype=torch.float64)), as_tensor)
    for a, b in zip(as_tensor, as_number, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-15)


@both
def test_each_group_has_its_own_options(make: Any) -> None:
    options = [{"lr": 0.02, "delta": 9.0}, {"weight_decay": 0.0}, {"wd_ratio": 0.9}, {"nesterov": True}]
    apart = [parameters(shapes=[(5, 7)]) for _ in options]
    for made, own in zip(apart, options, strict=True):
        stepped(lambda p, own=own: make(p, **own), made)
    together = [parameters(shapes=[(5, 7)])[0] for _ in options]
    stepped(lambda p: make([{"params": [q], **own} for q, own in zip(p, options, strict=True)]), together)
    assert same(together, [made[0] for made in apart])
    assert len({p.detach().numpy().tobytes() for p in together}) == len(options)


# What is refused


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (adamp, {"lr": -1.0}, "AdamP: lr should be 0 or more, a number or a tensor with one element, found -1.0"),
        (adamp, {"lr": torch.ones(2)}, "lr should be"),
        (adamp, {"lr": float("nan")}, "lr should be"),
        (adamp, {"lr": "0.1"}, "lr should be"),
        (adamp, {"betas": (0.9, 1.0)}, "betas should be two numbers from 0 to below 1, found (0.9, 1.0)"),
        (adamp, {"betas": 0.9}, "betas should be"),
        (adamp, {"eps": 0.0}, "eps should be above 0, found 0.0"),
        (adamp, {"weight_decay": -0.1}, "weight_decay should be 0 or more, found -0.1"),
        (adamp, {"delta": -0.1}, "delta should be 0 or more, found -0.1"),
        (adamp, {"delta": float("nan")}, "delta should be"),
        (adamp, {"wd_ratio": 10.0}, "wd_ratio should be from 0 to 1, found 10.0"),
        (adamp, {"foreach": True, "fused": True}, "AdamP: foreach and fused cannot both be True"),
        (adamp, {"channel_axis": 2}, "channel_axis should be 0 or 1, found 2"),
        (sgdp, {"lr": -1.0}, "SGDP: lr should be"),
        (
            sgdp,
            {"momentum": 1.0},
            "momentum should be from 0 to below 1, since weight decay is divided by 1 - momentum",
        ),
        (sgdp, {"dampening": 2.0}, "dampening should be from 0 to 1, found 2.0"),
        (sgdp, {"wd_ratio": -1.0}, "wd_ratio should be"),
    ],
)
def test_options_out_of_range_are_refused_in_one_sentence(make: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refusal:
        make(parameters(), **options)
    assert "\n" not in str(refusal.value)


@both
def test_options_at_the_edge_of_their_range_are_taken(make: Any) -> None:
    make(parameters(), lr=0.0, weight_decay=0.0, delta=0.0, wd_ratio=0.0)
    make(parameters(), delta=float("inf"), wd_ratio=1.0)
    AdamP(parameters(), foreach=False, fused=False, capturable=False, betas=(0.0, 0.0))


@both
def test_a_bad_group_added_later_is_refused_and_leaves_the_optimizer_as_it_was(make: Any) -> None:
    optimizer = make(parameters())
    with pytest.raises(ValueError, match="delta should be"):
        optimizer.add_param_group({"params": parameters(), "delta": -1.0})
    assert len(optimizer.param_groups) == 1


@both
@pytest.mark.parametrize(
    "value",
    [torch.ones(2, 3, dtype=torch.complex64), torch.ones(2, 3).to_sparse(), torch.ones(2, 3, dtype=torch.int64)],
    ids=["complex", "sparse", "integer"],
)
def test_complex_sparse_and_integer_parameters_are_refused(make: Any, value: Tensor) -> None:
    with pytest.raises(ValueError, match=r"parameters should be dense and of float16.*found torch\..*shape \(2, 3\)"):
        make([nn.Parameter(value, requires_grad=False)])


@both
def test_a_sparse_gradient_is_refused_before_anything_changes(make: Any) -> None:
    made = parameters(shapes=[(5, 7), (6, 4)])
    before = [nn.Parameter(p.detach().clone()) for p in made]
    optimizer = make(made)
    give_gradients(made, 0)
    assert made[1].grad is not None
    made[1].grad = made[1].grad.to_sparse()
    with pytest.raises(ValueError, match=r"gradients should be dense, found torch.sparse_coo .* shape \(6, 4\)"):
        optimizer.step()
    assert same(made, before)
    assert not optimizer.state


# Closures and states


@both
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(make: Any) -> None:
    (p,) = parameters(shapes=[(5, 7)])
    optimizer = make([p])

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        first, second = optimizer.step(closure), optimizer.step(closure)
    assert float(second.detach()) < float(first.detach())
    assert optimizer.step() is None


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_state_read_back_from_a_file_resumes_with_the_same_bits(make: Any, dtype: torch.dtype) -> None:
    whole = parameters(dtype)
    stepped(make, whole, stop=8)
    first = parameters(dtype)
    saved = stepped(make, first, stop=4).state_dict()
    file = io.BytesIO()
    torch.save({"optimizer": saved, "weights": [p.detach() for p in first]}, file)
    file.seek(0)
    read = torch.load(file, weights_only=True)
    again = [nn.Parameter(w) for w in read["weights"]]

    def resumed(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = make(params, lr=0.5)  # the file's lr counts, as in torch
        optimizer.load_state_dict(read["optimizer"])
        return optimizer

    stepped(resumed, again, start=4, stop=8)
    assert same(again, whole)


@both
def test_a_loaded_state_is_a_copy(make: Any) -> None:
    made = parameters()
    source = stepped(make, made)
    kept = copy.deepcopy(source.state_dict())

    def loaded(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = make(params)
        optimizer.load_state_dict(source.state_dict())
        return optimizer

    stepped(loaded, parameters())
    for i, state in kept["state"].items():
        for key, value in state.items():
            assert torch.equal(source.state_dict()["state"][i][key], value)


@pytest.mark.parametrize("switch", [{}, {"fused": True}, {"foreach": True}])
def test_adamp_goes_on_from_adamw(switch: dict[str, bool]) -> None:
    shapes = [(6, 4, 3, 3), (5, 7), (9,), ()]
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1}
    reference = parameters(torch.float64, shapes)
    stepped(lambda p: torch.optim.AdamW(p, **options), reference, stop=8)
    made = parameters(torch.float64, shapes)
    adamw = stepped(lambda p: torch.optim.AdamW(p, **options, **switch), made, stop=4)

    def continued(params: list[nn.Parameter]) -> AdamP:
        optimizer = AdamP([{"params": params, "delta": 0.0}], lr=0.5)
        optimizer.load_state_dict(adamw.state_dict())
        return optimizer

    optimizer = stepped(continued, made, start=4, stop=8)
    for p, q in zip(made, reference, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    group = optimizer.param_groups[0]
    assert {key: group[key] for key in ("lr", "delta", "fused", "foreach")} == {
        "lr": 0.01,
        "delta": 0.0,
        "fused": None,
        "foreach": None,
    }
    own = AdamP(parameters(torch.float64, shapes))
    assert set(optimizer.state[made[0]]) == {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer.state[made[0]]["step"].dtype == torch.float32
    own.load_state_dict(optimizer.state_dict())


def test_sgdp_goes_on_from_sgd() -> None:
    shapes = [(6, 4, 3, 3), (5, 7), (9,), ()]
    reference, made = parameters(torch.float64, shapes), parameters(torch.float64, shapes)
    stepped(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), reference, stop=8)
    sgd = stepped(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), made, stop=4)

    def continued(params: list[nn.Parameter]) -> SGDP:
        optimizer = SGDP([{"params": params, "delta": 0.0}], lr=0.5)
        optimizer.load_state_dict(sgd.state_dict())
        return optimizer

    stepped(continued, made, start=4, stop=8)
    for p, q in zip(made, reference, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-15)


def test_a_state_with_amsgrad_is_refused_and_nothing_loaded() -> None:
    made = parameters()
    source = stepped(lambda p: torch.optim.AdamW(p, amsgrad=True), made)
    optimizer = AdamP(parameters())
    with pytest.raises(ValueError, match="amsgrad"):
        optimizer.load_state_dict(source.state_dict())
    assert not optimizer.state


@pytest.mark.parametrize(("mine", "theirs"), [(AdamP, authors.AdamP), (SGDP, authors.SGDP)])
def test_a_run_begun_with_the_authors_package_goes_on(mine: Any, theirs: Any) -> None:
    options = {"lr": 0.01, "nesterov": True, **({"momentum": 0.9} if mine is SGDP else {})}
    shapes = [(6, 4, 3, 3), (5, 7), (9,)]
    reference, made = parameters(torch.float64, shapes), parameters(torch.float64, shapes)
    stepped(lambda p: theirs(p, **options), reference, stop=8)
    source = stepped(lambda p: theirs(p, **options), made, stop=4)

    def continued(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = mine(params, lr=0.5)
        optimizer.load_state_dict(source.state_dict())
        return optimizer

    stepped(continued, made, start=4, stop=8)
    for p, q in zip(made, reference, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


# The host never waits for the device


class NoWaiting(TorchDispatchMode):
    """Refuses to turn any tensor into a number, which on a device would make the host wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            raise AssertionError(f"the host waits in {func}")
        return func(*args, **(kwargs or {}))


def two_steps(make: Any, device: str, **options: Any) -> None:
    made = [nn.Parameter(torch.ones(shape, device=device)) for shape in ((6, 4, 3, 3), (5, 7), (9,))]
    optimizer = make(made, **options)
    for _ in range(2):
        for p in made:
            p.grad = torch.ones_like(p)
        optimizer.step()


settings = pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"maximize": True}], ids=str)


@both
@settings
def test_a_step_needs_no_value_of_any_tensor(make: Any, options: dict[str, Any]) -> None:
    two_steps(make, "meta", **options)
    with FakeTensorMode():
        two_steps(make, "cuda", **options)


@both
@settings
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["number", "tensor"])
def test_a_step_turns_no_tensor_into_a_number(make: Any, options: dict[str, Any], lr: Any) -> None:
    made = parameters()
    optimizer = stepped(lambda p: make(p, lr=lr, **options), made)
    with NoWaiting():
        optimizer.step()


@pytest.mark.parametrize("kind", [authors.AdamP, lambda p: authors.SGDP(p, lr=0.1)])
def test_the_authors_step_does_need_one(kind: Any) -> None:
    with pytest.raises(DataDependentOutputException), FakeTensorMode():
        two_steps(kind, "cuda")
    made = parameters(shapes=[(5, 7)])
    optimizer = stepped(kind, made)
    with pytest.raises(AssertionError, match="the host waits"), NoWaiting():
        optimizer.step()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@both
@settings
def test_on_cuda_the_host_waits_for_no_step(make: Any, options: dict[str, Any]) -> None:
    with no_waits():
        two_steps(make, "cuda", **options)


# The slot, the overlays and the library's names


@pytest.mark.parametrize(("config", "kind"), [(AdamPOptimizer, AdamP), (SGDPOptimizer, SGDP)])
def test_the_config_fills_the_slot_and_only_groups_that_decay_do(config: Any, kind: Any) -> None:
    decaying, other = parameters(shapes=[(5, 7), (9,)])
    groups = [ParameterGroup(("w",), (decaying,), True), ParameterGroup(("b",), (other,), False)]
    optimizer = config(lr=0.3, weight_decay=0.2, delta=0.4, wd_ratio=0.5, nesterov=True)(groups)
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]
    for group in optimizer.param_groups:
        assert (group["lr"], group["delta"], group["wd_ratio"], group["nesterov"]) == (0.3, 0.4, 0.5, True)


SWITCHES: dict[str, Any] = {"foreach": None, "fused": None, "diagnostics": False}


def recipe(*overrides: str, techniques: tuple[str, ...] = ()) -> Recipe:
    asked = ",".join(techniques or ("baseline",))
    with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
        cfg = OmegaConf.to_container(compose("train", [*overrides, f"technique=[{asked}]"]), resolve=True)
    return build_recipe(cfg, list(techniques))


@pytest.mark.parametrize(
    ("technique", "experiment", "own"),
    [
        ("adamp", "quickstart", {"delta": 0.1, "wd_ratio": 0.1, "nesterov": False, **SWITCHES}),
        ("sgdp", "cifar10_resnet18", {"delta": 0.1, "wd_ratio": 0.1, **SWITCHES}),
    ],
)
def test_the_overlay_swaps_the_optimizer_and_keeps_every_setting(
    technique: str, experiment: str, own: dict[str, Any]
) -> None:
    base = recipe(f"experiment={experiment}").config
    with_it = recipe(f"experiment={experiment}", techniques=(technique,))
    target = {"adamp": "AdamPOptimizer", "sgdp": "SGDPOptimizer"}[technique]
    assert with_it.techniques == (technique,)
    assert with_it.config == {
        **base,
        "optimizer": {**base["optimizer"], **own, "_target_": f"paribus.techniques.adamp.{target}"},
        "techniques": [technique],
    }
    assert recipe(f"experiment={experiment}", "optimizer.delta=0.3", techniques=(technique,)).optimizer.delta == 0.3  # type: ignore[attr-defined]


def test_cutmix_and_adamp_go_together() -> None:
    assert type(recipe("experiment=quickstart", techniques=("cutmix", "adamp")).optimizer) is AdamPOptimizer


@pytest.mark.parametrize(
    ("optimizer", "techniques", "said"),
    [
        ("sgd", ("adamp",), "AdamP takes the place of AdamW and nothing else"),
        ("adamw", ("sgdp",), "SGDP takes the place of SGD and nothing else"),
        ("sgd", ("adamp", "sgdp"), "AdamP takes the place of AdamW and nothing else"),
        ("sgd", ("sgdp", "adamp"), "technique=adamp does not go with technique=sgdp.*name one of the two"),
        ("adamw", ("adamp", "sgdp"), "technique=sgdp does not go with technique=adamp.*name one of the two"),
        ("adamw", ("sgdp", "adamp"), "SGDP takes the place of SGD and nothing else"),
    ],
)
def test_an_overlay_on_the_wrong_optimizer_is_refused(optimizer: str, techniques: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recipe("experiment=smoke", f"optimizer={optimizer}", techniques=techniques)


@pytest.mark.parametrize("technique", ["technique=adamp", "technique=[adamp,sgdp]"])
def test_the_command_line_refuses_adamp_on_an_sgd_recipe(
    technique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch(["train", "experiment=cifar10_resnet18", technique]) == 2
    told = capsys.readouterr().err
    assert "AdamP takes the place of AdamW and nothing else, so choose optimizer=adamw" in told
    assert len(told.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_library_offers_both_by_name() -> None:
    assert paribus.AdamP is AdamP
    assert paribus.SGDP is SGDP
    assert {"AdamP", "SGDP"} <= set(dir(paribus))
