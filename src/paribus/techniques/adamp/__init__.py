"""AdamP and SGDP: the part of an update that would only lengthen a scale-invariant weight is removed.

Heo, Chun, Oh, Han, Yun, Kim, Uh & Ha, "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
Weights", ICLR 2021, arXiv 2006.08217.

    u ← u − ŵ ⟨ŵ, u⟩   if  |cos(w, ∇f)| < δ / √dim(w),   else u        ŵ = w / ‖w‖

A weight that is followed by normalisation has a gradient orthogonal to it, and that is how it is recognised. Momentum
adds old gradients, which are not orthogonal to the current weight, so the weight grows and its effective step shrinks;
the projection stops that. The test uses the raw gradient and the weight before decay, first for all rows w[k] one by
one (channel view: the largest cosine counts), then for the whole tensor as one row (layer view).

What it changes   the update of tensors with two or more dimensions that pass the test, and their weight decay, which is
                  multiplied by wd_ratio. All other tensors are updated as by AdamW or SGD.
Hyperparameters   delta = 0.1, wd_ratio = 0.1, nesterov = False, eps = 1e-8, as in the authors' package. Beware of
                  "AdamP" runs made with timm's factory (--opt adamp): wd_ratio = 0.01, nesterov = True, which is
                  AdamP(…, **TIMM). channel_axis = 0: rows are w[k]; 1 for transposed convolutions, whose output
                  channels come second (models.groups.channel_axis_groups finds them; groups > 1 are mixed).
As the authors    eps is one number in three places: Adam's denominator, the floor of both norms in the cosine, and an
                  offset on ‖w‖. nesterov is β₁m + (1−β₁)g over the usual denominator, which is not torch's NAdam.
                  SGDP's buffer starts at 0 (torch.optim.SGD's at g; different under dampening). SGDP's decay is
                  decoupled, w ← w(1 − lr·wd/(1−momentum)·…): a coupled decay is itself accumulated in the momentum,
                  up to 1/(1−momentum) times what one step adds, and the factor gives the same wd the same long-run
                  strength. It is not the same trajectory: SGDP with delta = 0 is SGD only without weight decay.
Deviations        SGDP projects the applied update only. The authors' code without nesterov projects the momentum
                  buffer with it, against the paper: alias_momentum=True does the same. Both views are computed and the
                  choice is made on the device, so the host never waits. Half-precision parameters are computed and keep
                  state in float32: in float16 eps is 0 and the authors' weights become NaN. channels_last, tensors
                  without elements, maximize, and lr as a tensor are supported; complex and sparse tensors are refused.
Worth knowing     a matrix that is not scale-invariant still passes the layer view by chance, in about 8 % of steps at
                  delta = 0.1, and one with a zero gradient always passes, so that an unused embedding gets a tenth of
                  its decay. An L2 term in the loss, weight norm or noise on gradients breaks the orthogonality, and
                  nothing is projected. One-dimensional tensors are not projected, so under FSDP1, which flattens, AdamP
                  is AdamW; FSDP2 shards rows, and ranks would decide separately. diagnostics=True reports what is
                  projected.
Forms             written out below (foreach=False); batched torch operations (the default); fused=True, a C kernel on a
                  CPU and Triton kernels on CUDA (techniques/adamp/kernels/). They agree to rounding and are not
                  bit-exact.
Cost              state as AdamW or SGD. The time of a step on one thread of an AMD EPYC relative to torch's fused
                  AdamW, for the shapes of ResNet-18, PiT-S and ReXNet-1.0 with every matrix projected (with none, much
                  the same): fused 1.7, 1.5, 1.9; batched 3.7, 3.6, 3.9, where torch's own batched AdamW, which projects
                  nothing, takes 3.5, 3.5, 3.7; the reference 6.9, 6.0, 8.5; the authors' package 6.9, 6.0, 6.3
                  (experiments/bench).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.protocols import ParameterGroup
from paribus.methods.optimizer_parts import (
    RATES,
    Range,
    apply_decay_and_step,
    check_newest_group,
    convert_loaded_state,
    run_closure,
)
from paribus.methods.optimizers import Decay, Fraction, Rate, torch_groups
from paribus.techniques.adamp.kernels import dispatch
from paribus.techniques.adamp.kernels.params import (
    AdamRule,
    MomentumRule,
    Options,
    ParamTensors,
    ProjectionStats,
    collect_params,
    read_options,
)

TIMM: Mapping[str, Any] = {"wd_ratio": 0.01, "nesterov": True}  # what timm's factory means by "adamp"


class Projection(NamedTuple):
    update: Tensor
    ratio: Tensor  # factor on weight decay, 0-dim: wd_ratio where the update was projected, else 1
    by_channel: Tensor  # 0-dim, bool
    by_layer: Tensor
    length: Tensor  # ‖w‖, 0-dim


def projection(
    perturbation: Tensor,
    gradient: Tensor,
    weight: Tensor,
    delta: float,
    wd_ratio: float,
    eps: float,
    channel_axis: int = 0,
) -> Projection:
    """The projected update, and what was decided.

    perturbation, gradient, weight: one shape of two or more dimensions and one dtype, float32 or float64, any memory
    format; none is changed. No data-dependent branch.
    """
    gw, gg, ww, uw = (
        _row_sums(a * b, channel_axis)
        for a, b in ((gradient, weight), (gradient, gradient), (weight, weight), (perturbation, weight))
    )
    size = weight.numel()
    by_channel = orthogonal(gw, gg, ww, size // weight.shape[channel_axis], delta, eps)
    by_layer = orthogonal(gw.sum(), gg.sum(), ww.sum(), size, delta, eps) & ~by_channel
    one, zero = weight.new_ones(()), weight.new_zeros(())
    # how much of the weight itself is in the update; the channel view takes precedence
    along = torch.where(by_layer, _share(uw.sum(), ww.sum(), eps), zero)
    along = torch.where(by_channel, _share(uw, ww, eps), along)
    # a number in torch.where would be copied to the device, and the host would wait for that
    ratio = one.masked_fill(by_channel | by_layer, wd_ratio)
    return Projection(perturbation - along * weight, ratio, by_channel, by_layer, ww.sum().sqrt())


def orthogonal(gw: Tensor, gg: Tensor, ww: Tensor, size: int, delta: float, eps: float) -> Tensor:
    """True if every row's |cos(g, w)| is below delta / √size, from its ⟨g, w⟩, ‖g‖², ‖w‖²; rows of `size` numbers."""
    cosines = gw.abs() / (gg.sqrt().clamp_min(eps) * ww.sqrt().clamp_min(eps))
    return cosines.amax() < delta / size**0.5


def _row_sums(x: Tensor, axis: int) -> Tensor:
    """(r, ...) to (r, 1, ...). Sums over axes need no view, which is impossible for a channels_last tensor."""
    return x.sum([i for i in range(x.ndim) if i != axis], keepdim=True)


def _share(uw: Tensor, ww: Tensor, eps: float) -> Tensor:
    length = ww.sqrt() + eps
    return uw / length / length  # the square of the length could underflow


def adamp(adam: AdamRule, options: Options, param: ParamTensors) -> ProjectionStats | None:
    """One step of AdamP for one parameter, written out. The faster forms are tested against this one."""
    assert param.step is not None
    w, g, (m, v), beta1, beta2 = param.weight, param.gradient, param.states, adam.beta1, adam.beta2
    step = param.step.add_(1).double()  # stays a tensor: as a number it could not be traced
    m.mul_(beta1).add_(g, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    denominator = (v.sqrt() / (1 - beta2**step).sqrt()).add_(options.eps)
    u = (beta1 * m + (1 - beta1) * g if adam.nesterov else m) / denominator
    u, ratio, stats = _project_update(u, options, param)
    apply_decay_and_step(w, u, options.lr / (1 - beta1**step), options.lr * options.decay * ratio)
    return stats


def sgdp(sgd: MomentumRule, options: Options, param: ParamTensors) -> ProjectionStats | None:
    """One step of SGDP for one parameter, written out. The faster forms are tested against this one."""
    w, g, (buffer,) = param.weight, param.gradient, param.states
    buffer.mul_(sgd.momentum).add_(g, alpha=1 - sgd.dampening)
    u = g.add(buffer, alpha=sgd.momentum) if sgd.nesterov else buffer
    u, ratio, stats = _project_update(u, options, param)
    if sgd.alias and not sgd.nesterov:
        buffer.copy_(u)
    apply_decay_and_step(w, u, options.lr, options.lr * options.decay * ratio)
    return stats


def _project_update(
    u: Tensor, options: Options, param: ParamTensors
) -> tuple[Tensor, Tensor | float, ProjectionStats | None]:
    if not param.is_tested:
        return u, 1.0, None
    done = projection(u, param.gradient, param.weight, options.delta, options.wd_ratio, options.eps, param.axis)
    stats = (
        ProjectionStats(done.by_channel[None], done.by_layer[None], done.length[None])
        if options.collects_stats
        else None
    )
    return done.update, done.ratio, stats


_RANGES: Mapping[str, Range] = {
    **RATES,
    "delta": ("0 or more", lambda x: x >= 0),
    "wd_ratio": ("from 0 to 1", lambda x: 0 <= x <= 1),
    "channel_axis": ("0 or 1", lambda x: x in (0, 1)),
}
_ADAMP_RANGES: Mapping[str, Range] = {
    **_RANGES,
    "betas": ("two numbers from 0 to below 1", lambda x: len(x) == 2 and all(0 <= beta < 1 for beta in x)),
}
_SGDP_RANGES: Mapping[str, Range] = {
    **_RANGES,
    "momentum": ("from 0 to below 1, since weight decay is divided by 1 - momentum", lambda x: 0 <= x < 1),
    "dampening": ("from 0 to 1", lambda x: 0 <= x <= 1),
}


class AdamP(torch.optim.Optimizer):
    """Adam with decoupled weight decay and the projection. For any training loop.

    params: parameters or groups, as for torch.optim.AdamW. lr: 0 or more, a number or a tensor with one element.
    betas: each from 0 to below 1. eps: above 0. weight_decay: 0 or more. delta: 0 or more; 0 never projects, which is
    AdamW. wd_ratio: 0 to 1. channel_axis: 0 or 1, see above. foreach: None or True for batched operations, False for
    the reference. fused: True for a kernel; without a compiler (on CUDA a warning says so once), or where it cannot be
    used (float64 on CUDA, channels that are not outermost in memory), the batched form is used. capturable: accepted
    for compatibility; steps are always counted on the device. diagnostics: see that method.
    Raises ValueError for anything else, and for complex, integer or sparse tensors.
    The state is AdamW's: step, a float32 tensor on the parameter's device, exp_avg and exp_avg_sq, of its shape.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        *,
        channel_axis: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        diagnostics: bool = False,
    ) -> None:
        adam = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "nesterov": nesterov}
        test = {"delta": delta, "wd_ratio": wd_ratio, "channel_axis": channel_axis, "maximize": maximize}
        switches = {"foreach": foreach, "fused": fused, "capturable": capturable, "diagnostics": diagnostics}
        super().__init__(params, {**adam, **test, **switches})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        check_newest_group(self, _ADAMP_RANGES)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. closure: evaluated first, with gradients; its result is returned."""
        loss = run_closure(closure)
        stats: list[ProjectionStats] = []
        for group, params in collect_params(self, ("exp_avg", "exp_avg_sq"), counts=True):
            beta1, beta2 = group["betas"]
            rule = AdamRule(beta1, beta2, group["nesterov"])
            stats += dispatch.take_step(self, adamp, rule, read_options(group, group["weight_decay"]), params, group)
        self._seen = stats
        return loss

    def diagnostics(self) -> dict[str, Tensor]:
        """What the last step projected, as tensors on the device; empty unless diagnostics=True. See
        compute_diagnostics."""
        return dispatch.compute_diagnostics(self, "adamp")

    @property
    def form(self) -> str:
        """Which form takes its steps here. See `dispatch.describe_form`."""
        return dispatch.describe_form(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Also takes the state of torch.optim.AdamW (without amsgrad) and of the authors' AdamP. Tensors are copied."""
        if any(group.get("amsgrad") for group in state_dict["param_groups"]):
            raise ValueError("AdamP cannot load a state with amsgrad=True: it keeps no running maximum")
        before = [dict(group) for group in self.param_groups]
        super().load_state_dict(state_dict)
        convert_loaded_state(self, state_dict, before)


class SGDP(torch.optim.Optimizer):
    """SGD with momentum, decoupled weight decay and the projection. For any training loop.

    params: parameters or groups, as for torch.optim.SGD. lr: 0 or more, a number or a tensor with one element.
    momentum: from 0 to below 1. dampening, wd_ratio: 0 to 1. weight_decay: 0 or more. eps: above 0. delta: 0 or more; 0
    never projects. alias_momentum: as the authors' code, which without nesterov projects the momentum buffer too.
    channel_axis, foreach, fused, capturable, diagnostics: as for AdamP.
    Raises ValueError for anything else, and for complex, integer or sparse tensors.
    The state is momentum_buffer, of the parameter's shape.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        *,
        channel_axis: int = 0,
        maximize: bool = False,
        alias_momentum: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        diagnostics: bool = False,
    ) -> None:
        sgd = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "eps": eps}
        sgd |= {"nesterov": nesterov, "alias_momentum": alias_momentum}
        test = {"delta": delta, "wd_ratio": wd_ratio, "channel_axis": channel_axis, "maximize": maximize}
        switches = {"foreach": foreach, "fused": fused, "capturable": capturable, "diagnostics": diagnostics}
        super().__init__(params, {**sgd, **test, **switches})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        check_newest_group(self, _SGDP_RANGES)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. closure: evaluated first, with gradients; its result is returned."""
        loss = run_closure(closure)
        stats: list[ProjectionStats] = []
        for group, params in collect_params(self, ("momentum_buffer",), counts=False):
            momentum = group["momentum"]
            rule = MomentumRule(momentum, group["dampening"], group["nesterov"], group["alias_momentum"])
            options = read_options(group, group["weight_decay"] / (1 - momentum))
            stats += dispatch.take_step(self, sgdp, rule, options, params, group)
        self._seen = stats
        return loss

    def diagnostics(self) -> dict[str, Tensor]:
        """What the last step projected, as tensors on the device; empty unless diagnostics=True. See
        compute_diagnostics."""
        return dispatch.compute_diagnostics(self, "sgdp")

    @property
    def form(self) -> str:
        """Which form takes its steps here. See `dispatch.describe_form`."""
        return dispatch.describe_form(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Also takes the state of torch.optim.SGD and of the authors' SGDP. Tensors are copied."""
        before = [dict(group) for group in self.param_groups]
        super().load_state_dict(state_dict)
        convert_loaded_state(self, state_dict, before, renamed={"momentum": "momentum_buffer"})


Delta = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]


@schema
class AdamPOptimizer:
    """AdamP in place of AdamW: the same settings and three more.

    lr: the highest learning rate, which the schedule multiplies. betas: decay of the averages of the gradient and its
    square. eps: added to the denominator. weight_decay: decoupled, so times the learning rate. decay: which tensors
    decay, `matrices` (of two dimensions and more) or all (models/groups.py). delta: |cos(w, gradient)| below delta/√dim
    is taken for scale-invariance; 0 projects nothing. wd_ratio: weight decay of projected tensors, times this.
    nesterov: Nesterov's momentum. foreach: null or true for batched operations, false for the slow, readable reference.
    fused: true for the C kernel on a CPU, the Triton kernels on CUDA. diagnostics: log the shares of tensors projected,
    and their norm.
    """

    lr: Rate = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    decay: Decay = "matrices"
    delta: Delta = 0.1
    wd_ratio: Ratio = 0.1
    nesterov: bool = False
    foreach: bool | None = None
    fused: bool | None = None
    diagnostics: bool = False

    def __call__(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        return AdamP(
            torch_groups(groups, self.weight_decay),
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            delta=self.delta,
            wd_ratio=self.wd_ratio,
            nesterov=self.nesterov,
            foreach=self.foreach,
            fused=self.fused,
            diagnostics=self.diagnostics,
        )


@schema
class SGDPOptimizer:
    """SGDP in place of SGD: the same settings and two more. Its weight decay is decoupled, SGD's is not (see above).

    lr: the highest learning rate, which the schedule multiplies. momentum: share of the last update that stays.
    dampening: of the gradient in the momentum. weight_decay: decoupled, so times the learning rate. decay: which
    tensors decay, `matrices` (of two dimensions and more) or all (models/groups.py). delta: |cos(w, gradient)| below
    delta/√dim is taken for scale-invariance; 0 projects nothing. wd_ratio: weight decay of projected tensors, times
    this. nesterov: Nesterov's momentum. foreach: null or true for batched operations, false for the slow, readable
    reference. fused: true for the C kernel on a CPU, the Triton kernels on CUDA. diagnostics: log the shares of tensors
    projected, and their norm.
    """

    lr: Rate = 0.1
    momentum: Fraction = 0.9
    dampening: Fraction = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    nesterov: bool = False
    decay: Decay = "matrices"
    delta: Delta = 0.1
    wd_ratio: Ratio = 0.1
    foreach: bool | None = None
    fused: bool | None = None
    diagnostics: bool = False

    def __call__(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        return SGDP(
            torch_groups(groups, self.weight_decay),
            lr=self.lr,
            momentum=self.momentum,
            dampening=self.dampening,
            nesterov=self.nesterov,
            delta=self.delta,
            wd_ratio=self.wd_ratio,
            foreach=self.foreach,
            fused=self.fused,
            diagnostics=self.diagnostics,
        )
