"""A projecting step in operations on whole lists of tensors, for CPU and CUDA. The default.

Adam's and SGD's own part is torch's fused kernel, pointed at a tensor of zeros instead of the weight: what it leaves
there is the update. The row sums follow, tensor by tensor; the decisions of all tensors of a batch are made together
on the concatenated sums, on the device. On a CPU a batch is small, so that the row sums find its tensors in the cache.

Not MKL's dot products, which depend on where a tensor happens to lie; torch's sums do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.methods.projected.leaves import Adam, Leaf, Momentum, Options, Rule, Seen, in_memory, threshold

_BATCH = {"cpu": 1 << 18}  # elements; measured best from 2¹⁷ to 2¹⁹ on a CPU with 1 MiB of second-level cache a core
_LARGE_BATCH = 1 << 26  # on a GPU launches count, and memory for two more copies of this much


@dataclass(frozen=True)
class Plan:
    """Which rows belong to which tensor of a batch."""

    lengths: Tensor  # (tensors,) rows of each
    owner: Tensor  # (rows,) the tensor of each
    row_threshold: Tensor  # (tensors,)
    layer_threshold: Tensor  # (tensors,)


Plans = dict[object, Plan]


def move(rule: Rule, options: Options, leaves: list[Leaf], plans: Plans) -> list[Seen]:
    """One step of dense leaves on one device and in one dtype; weights and states change in place.

    plans: kept by the caller from step to step, so that nothing is copied to the device in a captured step.
    """
    if isinstance(rule, Adam):
        torch._foreach_add_([leaf.step for leaf in leaves if leaf.step is not None], 1)
    seen: list[Seen] = []
    for batch in _batches([leaf for leaf in leaves if not leaf.projects and leaf.weight.numel()]):
        _move_plain(rule, options, batch)
    for batch in _batches([leaf for leaf in leaves if leaf.projects]):
        seen.append(_move_projected(rule, options, batch, plans))
    return seen


def _batches(leaves: list[Leaf]) -> Iterator[list[Leaf]]:
    batch: list[Leaf] = []
    elements = 0
    for leaf in leaves:
        batch.append(leaf)
        elements += leaf.weight.numel()
        if elements >= _BATCH.get(leaf.weight.device.type, _LARGE_BATCH):
            yield batch
            batch, elements = [], 0
    if batch:
        yield batch


def _move_plain(rule: Rule, options: Options, leaves: list[Leaf]) -> None:
    """w ← w(1 − lr·decay) − lr·u."""
    weights = [leaf.weight for leaf in leaves]
    lr = _lr(options, leaves)
    changes = _changes(rule, options, leaves, 1.0 if isinstance(lr, Tensor) else lr)
    if options.decay:
        torch._foreach_mul_(weights, 1 - lr * options.decay)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if isinstance(lr, Tensor):
        torch._foreach_mul_(changes, lr)
    torch._foreach_add_(weights, changes)


def _move_projected(rule: Rule, options: Options, leaves: list[Leaf], plans: Plans) -> Seen:
    """w ← w(1 − lr·decay·ratio) − lr·(u − along·w), as w + (change + w·factor), which rounds less."""
    shapes = [in_memory(leaf) for leaf in leaves]
    weights = [_rows(leaf.weight, shape) for leaf, shape in zip(leaves, shapes, strict=True)]
    gradients = [_rows(leaf.gradient, shape) for leaf, shape in zip(leaves, shapes, strict=True)]
    lr, rows = _lr(options, leaves), [shape[1] for shape in shapes]
    aliased = isinstance(rule, Momentum) and rule.alias and not rule.nesterov
    later = aliased or isinstance(lr, Tensor)  # the update is multiplied with lr at the end, at the cost of a pass
    made = _changes(rule, options, leaves, 1.0 if later else lr)
    changes = [_rows(x, shape) for x, shape in zip(made, shapes, strict=True)]

    plan = _plan(shapes, leaves, options.delta, plans)
    gw, uw = _products(gradients, weights), _products(changes, weights)
    along, seen = _decide(gw, uw, _norms(gradients), _norms(weights), plan, options.eps)
    ratio = torch.ones_like(seen.norm).masked_fill_(seen.channel | seen.layer, options.wd_ratio)
    decay = (ratio * (lr * options.decay)).index_select(0, plan.owner)

    if aliased:  # a change is −u here, and so is what is along the weight
        for leaf, weight, a, shape in zip(leaves, weights, along.split(rows), shapes, strict=True):
            _rows(leaf.states[0], shape).addcmul_(weight, a.unsqueeze(-1))
    if later:
        torch._foreach_mul_(changes, lr)  # pyright: ignore[reportArgumentType, reportCallIssue]
        along = along * lr
    factors = (-decay - along).split(rows)
    for weight, change, factor in zip(weights, changes, factors, strict=True):
        weight.add_(change.addcmul_(weight, factor.unsqueeze(-1)))
    return seen


def _lr(options: Options, leaves: list[Leaf]) -> float | Tensor:
    if isinstance(options.lr, Tensor):
        return options.lr.to(leaves[0].weight.device, non_blocking=True)
    return options.lr


def _decide(gw: Tensor, uw: Tensor, g: Tensor, w: Tensor, plan: Plan, eps: float) -> tuple[Tensor, Seen]:
    """From every row's ⟨g,w⟩, ⟨u,w⟩, ‖g‖, ‖w‖: how much of w to take out of each row's u, and what was seen."""
    cosines = gw.abs() / (g.clamp_min(eps) * w.clamp_min(eps))
    by_channel = _of_each(cosines, "max", plan) < plan.row_threshold
    sums = _of_each(torch.stack((gw, uw, g * g, w * w), 1), "sum", plan)
    total_gw, total_uw, total_g, total_w = sums[:, 0], sums[:, 1], sums[:, 2].sqrt(), sums[:, 3].sqrt()
    cosine = total_gw.abs() / (total_g.clamp_min(eps) * total_w.clamp_min(eps))
    by_layer = (cosine < plan.layer_threshold) & ~by_channel
    length, total_length = w + eps, total_w + eps
    nowhere = torch.zeros_like(total_w)
    along = torch.where(by_layer, total_uw / total_length / total_length, nowhere).index_select(0, plan.owner)
    along = torch.where(by_channel.index_select(0, plan.owner), uw / length / length, along)
    return along, Seen(by_channel, by_layer, total_w)


def _of_each(x: Tensor, reduction: str, plan: Plan) -> Tensor:
    # checked (unsafe=False), the lengths would be read by the host
    return torch.segment_reduce(x, reduction, lengths=plan.lengths, unsafe=True)


def _changes(rule: Rule, options: Options, leaves: list[Leaf], rate: float) -> list[Tensor]:
    """−rate·u of each leaf; its states are brought up to date."""
    changes = [torch.zeros_like(leaf.weight) for leaf in leaves]
    if isinstance(rule, Adam):
        _adam_changes(rule, options.eps, rate, leaves, changes)
    else:
        _momentum_changes(rule, rate, leaves, changes)
    return changes


def _adam_changes(adam: Adam, eps: float, rate: float, leaves: list[Leaf], changes: list[Tensor]) -> None:
    gradients = [leaf.gradient for leaf in leaves]
    ms, vs = ([leaf.states[i] for leaf in leaves] for i in (0, 1))
    if adam.nesterov:  # the kernel's own m, from one more step of m, is then the look-ahead
        torch._foreach_lerp_(ms, gradients, 1 - adam.beta1)
        ms = torch._foreach_clone(ms)
    torch._fused_adamw_(
        changes,
        gradients,
        ms,
        vs,
        [],
        [leaf.step for leaf in leaves],  # pyright: ignore[reportArgumentType]
        lr=rate,
        beta1=adam.beta1,
        beta2=adam.beta2,
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


def _momentum_changes(sgd: Momentum, rate: float, leaves: list[Leaf], changes: list[Tensor]) -> None:
    gradients, buffers = [leaf.gradient for leaf in leaves], [leaf.states[0] for leaf in leaves]
    if sgd.momentum == 0:  # torch's kernel keeps no buffer then
        for change, gradient, buffer in zip(changes, gradients, buffers, strict=True):
            torch.mul(gradient, 1 - sgd.dampening, out=buffer)
            change.add_(gradient if sgd.nesterov else buffer, alpha=-rate)
        return
    torch._fused_sgd_(
        changes,
        gradients,
        buffers,
        weight_decay=0.0,
        momentum=sgd.momentum,
        lr=rate,
        dampening=sgd.dampening,
        nesterov=sgd.nesterov,
        maximize=False,
        is_first_step=False,
    )


def _rows(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """A dense tensor as it lies in memory: (rows, inner), or (outer, rows, inner)."""
    outer, rows, inner = shape
    if outer == 1:
        return x.as_strided((rows, inner), (inner, 1))
    return x.as_strided(shape, (rows * inner, inner, 1))


def _dims(x: Tensor) -> tuple[int, ...]:
    return (1,) if x.ndim == 2 else (0, 2)


def _norms(xs: list[Tensor]) -> Tensor:
    return torch.cat([torch.linalg.vector_norm(x, dim=_dims(x)) for x in xs])


def _products(xs: list[Tensor], ys: list[Tensor]) -> Tensor:
    return torch.cat([(x * y).sum(_dims(x)) for x, y in zip(xs, ys, strict=True)])


def _plan(shapes: list[tuple[int, int, int]], leaves: list[Leaf], delta: float, plans: Plans) -> Plan:
    weight = leaves[0].weight
    key = (tuple(shapes), delta, weight.device, weight.dtype)
    if key not in plans:
        rows = [shape[1] for shape in shapes]
        sizes = [leaf.weight.numel() for leaf in leaves]
        lengths = torch.tensor(rows)
        numbers = (
            lengths,
            torch.arange(len(rows)).repeat_interleave(lengths, output_size=sum(rows)),
            torch.tensor([threshold(delta, n // r) for n, r in zip(sizes, rows, strict=True)], dtype=weight.dtype),
            torch.tensor([threshold(delta, n) for n in sizes], dtype=weight.dtype),
        )
        plans[key] = Plan(*(x.to(weight.device, non_blocking=True) for x in numbers))
    return plans[key]
