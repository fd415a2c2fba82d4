"""A projecting step in operations on whole lists of tensors, for CPU and CUDA. The default.

Adam's own part is torch's fused kernel, applied to a tensor of zeros instead of the weight: the result is the update.
The row sums follow; the decisions of all tensors of a batch are made together on the concatenated sums, on the device.
On a CPU a batch is processed in chunks that stay in the cache, tensor by tensor, and a large tensor is cut into chunks
by rows. On a GPU launches count: weights and gradients are copied into one stretch of memory, whose row sums take one
operation each, and only the last operation, which moves the weights, is one a tensor.

MKL's dot products are not used: their results depend on a tensor's address in memory; those of torch's sums do not.
"""

# torch's operations on lists have no public names
# pyright: reportPrivateImportUsage=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paribus.techniques.adamp.kernels.params import (
    AdamRule,
    MomentumRule,
    Options,
    ParamTensors,
    ProjectionStats,
    UpdateRule,
    memory_layout,
    threshold,
)

_CPU_BATCH, _CPU_CHUNK = 1 << 21, 1 << 18  # elements; smaller chunks cost more calls than they save misses
_BATCH = 1 << 25  # elements on a GPU; a step needs memory for four more copies of this much


@dataclass(frozen=True)
class BatchPlan:
    """Which rows belong to which tensor of a batch."""

    bounds: Tensor  # (4·tensors + 1,) where each tensor's rows begin in four lists of all rows, one after the other
    owner: Tensor  # (rows,) the tensor of each
    row_bounds: Tensor | None  # (outer·rows + 1,) where the rows begin in memory; None on a CPU
    row_threshold: Tensor  # (tensors,)
    layer_threshold: Tensor  # (tensors,)


StepCache = dict[object, Any]


class Piece(NamedTuple):  # hundreds are made in a step, and a dataclass costs three times as much
    """Some rows of a parameter, or all: (rows, inner), or (outer, rows, inner), as they lie in memory."""

    weight: Tensor
    gradient: Tensor
    states: tuple[Tensor, ...]
    change: Tensor  # −rate·u
    step: Tensor | None


def take_step(
    rule: UpdateRule, options: Options, params: list[ParamTensors], cache: StepCache
) -> list[ProjectionStats]:
    """One step of dense parameters on one device and in one dtype; weights and states change in place.

    cache: a dict that lives from step to step; in a captured step nothing is copied to the device.
    """
    device = params[0].weight.device
    if isinstance(rule, AdamRule):
        steps = [param.step for param in params if param.step is not None]
        # on the CPU a number would become a tensor for every counter anew
        torch._foreach_add_(steps, [torch.ones(())] * len(steps) if device.type == "cpu" else 1)
    lr = options.lr.to(device, non_blocking=True) if isinstance(options.lr, Tensor) else options.lr
    plain = [param for param in params if not param.is_tested and param.weight.numel()]
    if plain:
        _step_untested(rule, options, lr, plain)
    size = _CPU_BATCH if device.type == "cpu" else _BATCH
    return [_step_tested(rule, options, lr, batch, cache) for batch in _batches(params, size)]


def _batches(params: list[ParamTensors], size: int) -> Iterator[list[ParamTensors]]:
    batch: list[ParamTensors] = []
    elements = 0
    for param in params:
        if param.is_tested:
            batch.append(param)
            elements += param.weight.numel()
        if elements >= size:
            yield batch
            batch, elements = [], 0
    if batch:
        yield batch


def _step_untested(rule: UpdateRule, options: Options, lr: float | Tensor, params: list[ParamTensors]) -> None:
    """w ← w(1 − lr·decay) − lr·u."""
    weights = [param.weight for param in params]
    if options.decay:
        torch._foreach_mul_(weights, 1 - lr * options.decay)
    if not isinstance(lr, Tensor):
        _subtract_update(rule, options.eps, lr, _untested_pieces(params, weights))
        return
    sizes = [weight.numel() for weight in weights]
    buffer = torch.zeros(sum(sizes), dtype=weights[0].dtype, device=weights[0].device)
    changes = [part.view(weight.shape) for part, weight in zip(buffer.split(sizes), weights, strict=True)]
    _subtract_update(rule, options.eps, 1.0, _untested_pieces(params, changes))
    buffer.mul_(lr)
    torch._foreach_add_(weights, changes)


def _untested_pieces(params: list[ParamTensors], changes: list[Tensor]) -> list[Piece]:
    return [Piece(x.weight, x.gradient, x.states, c, x.step) for x, c in zip(params, changes, strict=True)]


def _step_tested(
    rule: UpdateRule, options: Options, lr: float | Tensor, params: list[ParamTensors], cache: StepCache
) -> ProjectionStats:
    """w ← w(1 − lr·decay·ratio) − lr·(u − along·w), as w·factor + change with one factor for each row."""
    aliased = isinstance(rule, MomentumRule) and rule.alias and not rule.nesterov
    scales_later = aliased or isinstance(
        lr, Tensor
    )  # then the update is multiplied with lr at the end, in one more pass
    shapes = [memory_layout(param) for param in params]
    in_chunks = _in_chunks(params[0].weight)
    buffer = _zeros(sum(param.weight.numel() for param in params), params[0].weight, cache)
    pieces = _cut_into_pieces(params, shapes, buffer)
    plan = _plan(shapes, params, options.delta, cache)
    rate = lr if not scales_later else 1.0
    if in_chunks:
        sums = [_update_and_sum(rule, options.eps, rate, chunk, cache) for chunk in _split_into_chunks(pieces)]
        gw, uw, g, w = (torch.cat([x for chunk in sums for x in chunk[i]]) for i in range(4))
    else:
        _subtract_update(rule, options.eps, rate, pieces)
        gw, uw, g, w = _sum_together(pieces, buffer, shapes, plan)
        if scales_later:
            buffer.mul_(lr)

    along, stats = _decide(gw, uw, g, w, plan, options.eps)
    ratio = torch.ones_like(stats.norm).masked_fill_(stats.channel | stats.layer, options.wd_ratio)
    decay = (ratio * (lr * options.decay)).index_select(0, plan.owner)
    factor = 1 - decay - (along * lr if scales_later else along)
    rows = [piece.weight.shape[-2] for piece in pieces]
    if aliased:  # a change is −u here, and so is what is along the weight
        for piece, share in zip(pieces, along.split(rows), strict=True):
            piece.states[0].addcmul_(piece.weight, share.unsqueeze(-1))
    if not in_chunks:
        for piece, f in zip(pieces, factor.split(rows), strict=True):
            torch.addcmul(piece.change, piece.weight, f.unsqueeze(-1), out=piece.weight)
        return stats
    for piece, f in zip(pieces, factor.split(rows), strict=True):
        change = piece.change.mul_(lr) if scales_later else piece.change
        piece.weight.mul_(f.unsqueeze(-1)).add_(change)
    return stats


def _in_chunks(weight: Tensor) -> bool:
    """Whether the work is cut into chunks for a cache: a CPU's. Elsewhere it is done with as few launches as can be."""
    return weight.device.type == "cpu"


def _cut_into_pieces(params: list[ParamTensors], shapes: list[tuple[int, int, int]], buffer: Tensor) -> list[Piece]:
    in_chunks = _in_chunks(params[0].weight)
    pieces: list[Piece] = []
    start = 0
    for param, (outer, rows, inner) in zip(params, shapes, strict=True):
        shape, strides = ((rows, inner), (inner, 1)) if outer == 1 else ((outer, rows, inner), (rows * inner, inner, 1))
        all_ = [x.as_strided(shape, strides) for x in (param.weight, param.gradient, *param.states)]
        all_.append(buffer.as_strided(shape, strides, start))
        start += param.weight.numel()
        cut = max(1, _CPU_CHUNK // inner)
        if outer == 1 and rows > cut and in_chunks:
            parts = zip(*(x.split(cut) for x in all_), strict=True)
        else:
            parts = [tuple(all_)]
        pieces += [Piece(w, g, tuple(states), change, param.step) for w, g, *states, change in parts]
    return pieces


def _zeros(size: int, weight: Tensor, cache: StepCache) -> Tensor:
    """On the CPU in memory that is reused: memory allocated anew in every step would be mapped page by page."""
    if not _in_chunks(weight):
        return torch.zeros(size, dtype=weight.dtype, device=weight.device)
    return _get_buffer(size, "changes", weight, cache)  # zeroed chunk by chunk


def _get_buffer(size: int, name: str, weight: Tensor, cache: StepCache) -> Tensor:
    buffer = cache.get((name, weight.dtype))
    if buffer is None or buffer.numel() < size:
        buffer = cache[name, weight.dtype] = torch.empty(size, dtype=weight.dtype, device=weight.device)
    return buffer[:size]


def _split_into_chunks(pieces: list[Piece]) -> Iterator[list[Piece]]:
    chunk: list[Piece] = []
    elements = 0
    for piece in pieces:
        size = piece.weight.numel()
        if chunk and elements + size > _CPU_CHUNK:
            yield chunk
            chunk, elements = [], 0
        chunk.append(piece)
        elements += size
    yield chunk


def _update_and_sum(
    rule: UpdateRule, eps: float, rate: Any, chunk: list[Piece], cache: StepCache
) -> tuple[list[Tensor], ...]:
    """Makes the update of each piece, and takes ⟨g,w⟩, ⟨−rate·u,w⟩, ‖g‖, ‖w‖ of its rows."""
    torch._foreach_zero_([piece.change for piece in chunk])
    _subtract_update(rule, eps, rate, chunk)
    buffer = _get_buffer(max(piece.weight.numel() for piece in chunk), "products", chunk[0].weight, cache)
    gw, uw, g, w = [], [], [], []
    for piece in chunk:
        product = buffer.as_strided(piece.weight.shape, piece.weight.stride())
        uw.append(_sum(torch.mul(piece.change, piece.weight, out=product)))
        gw.append(_sum(torch.mul(piece.gradient, piece.weight, out=product)))
        w.append(_norm(piece.weight))
        g.append(_norm(piece.gradient))
    return gw, uw, g, w


def _sum_together(
    pieces: list[Piece], changes: Tensor, shapes: list[tuple[int, int, int]], plan: BatchPlan
) -> tuple[Tensor, ...]:
    """⟨g,w⟩, ⟨−rate·u,w⟩, ‖g‖, ‖w‖ of all rows. changes: those of all pieces, one after the other."""
    w = torch.cat([piece.weight.reshape(-1) for piece in pieces])
    g = torch.cat([piece.gradient.reshape(-1) for piece in pieces])
    product = g * w
    gw = _sum_rows(product, shapes, plan)
    uw = _sum_rows(torch.mul(changes, w, out=product), shapes, plan)
    return gw, uw, _sum_rows(g.mul_(g), shapes, plan).sqrt_(), _sum_rows(w.mul_(w), shapes, plan).sqrt_()


def _sum_rows(x: Tensor, shapes: list[tuple[int, int, int]], plan: BatchPlan) -> Tensor:
    sums = torch.segment_reduce(x, "sum", offsets=plan.row_bounds, unsafe=True)
    if all(outer == 1 for outer, _, _ in shapes):
        return sums
    parts = sums.split([outer * rows for outer, rows, _ in shapes])
    return torch.cat([part.view(outer, rows).sum(0) for part, (outer, rows, _) in zip(parts, shapes, strict=True)])


def _sum(x: Tensor) -> Tensor:
    return x.sum(1) if x.ndim == 2 else x.sum((0, 2))


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1 if x.ndim == 2 else (0, 2))


def _decide(
    gw: Tensor, uw: Tensor, g: Tensor, w: Tensor, plan: BatchPlan, eps: float
) -> tuple[Tensor, ProjectionStats]:
    """From every row's ⟨g,w⟩, ⟨u,w⟩, ‖g‖, ‖w‖: how much of w to take out of each row's u, and what was decided."""
    cosines = gw.abs() / (g.clamp_min(eps) * w.clamp_min(eps))
    by_channel = _reduce_by_tensor(cosines, "max", plan) < plan.row_threshold
    sums = _reduce_by_tensor(torch.cat((gw, uw, g * g, w * w)), "sum", plan)
    total_gw, total_uw, total_gg, total_ww = sums.chunk(4)
    total_g, total_w = total_gg.sqrt(), total_ww.sqrt()
    cosine = total_gw.abs() / (total_g.clamp_min(eps) * total_w.clamp_min(eps))
    by_layer = (cosine < plan.layer_threshold) & ~by_channel
    length, total_length = w + eps, total_w + eps
    zero = torch.zeros_like(total_w)
    along = torch.where(by_layer, total_uw / total_length / total_length, zero).index_select(0, plan.owner)
    along = torch.where(by_channel.index_select(0, plan.owner), uw / length / length, along)
    return along, ProjectionStats(by_channel, by_layer, total_w)


def _reduce_by_tensor(x: Tensor, reduction: str, plan: BatchPlan) -> Tensor:
    """x: one list of all rows, or four. (On CUDA, with a second axis, one thread would go through each tensor.)"""
    bounds = plan.bounds[: len(plan.row_threshold) * (len(x) // len(plan.owner)) + 1]
    # checked (unsafe=False), the bounds would be read by the host
    return torch.segment_reduce(x, reduction, offsets=bounds, unsafe=True)


def _subtract_update(rule: UpdateRule, eps: float, rate: float, pieces: list[Piece]) -> None:
    """change ← change − rate·u; the states are updated."""
    changes, gradients = [p.change for p in pieces], [p.gradient for p in pieces]
    states = [p.states[0] for p in pieces]
    if isinstance(rule, MomentumRule):
        _subtract_momentum(rule, rate, changes, gradients, states)
        return
    if rule.nesterov:  # the kernel's own m, from one more step of m, is then the look-ahead
        torch._foreach_lerp_(states, gradients, 1 - rule.beta1)
        states = torch._foreach_mul(states, 1.0)  # a copy; torch 2.11 has no `_foreach_clone`
    torch._fused_adamw_(
        changes,
        gradients,
        states,
        [p.states[1] for p in pieces],
        [],
        [p.step for p in pieces],
        lr=rate,
        beta1=rule.beta1,
        beta2=rule.beta2,
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


def _subtract_momentum(
    sgd: MomentumRule, rate: float, changes: list[Tensor], gradients: list[Tensor], buffers: list[Tensor]
) -> None:
    # torch's fused SGD keeps no buffer without momentum, and cannot be traced
    torch._foreach_mul_(buffers, sgd.momentum)
    torch._foreach_add_(buffers, gradients, alpha=1 - sgd.dampening)
    u = torch._foreach_add(gradients, buffers, alpha=sgd.momentum) if sgd.nesterov else buffers
    torch._foreach_add_(changes, u, alpha=-rate)


def _plan(shapes: list[tuple[int, int, int]], params: list[ParamTensors], delta: float, cache: StepCache) -> BatchPlan:
    weight = params[0].weight
    key = (tuple(shapes), delta, weight.device, weight.dtype)
    if key not in cache:
        rows = [shape[1] for shape in shapes]
        sizes = [param.weight.numel() for param in params]
        lengths = torch.tensor(rows)
        segments = [outer * rows for outer, rows, _ in shapes]
        inner = torch.tensor([inner for _, _, inner in shapes])
        numbers = (
            _bounds(lengths.repeat(4)),
            torch.arange(len(rows)).repeat_interleave(lengths, output_size=sum(rows)),
            None
            if _in_chunks(weight)
            else _bounds(inner.repeat_interleave(torch.tensor(segments), output_size=sum(segments))),
            torch.tensor([threshold(delta, n // r) for n, r in zip(sizes, rows, strict=True)], dtype=weight.dtype),
            torch.tensor([threshold(delta, n) for n in sizes], dtype=weight.dtype),
        )
        cache[key] = BatchPlan(*(x if x is None else x.to(weight.device, non_blocking=True) for x in numbers))
    return cache[key]


def _bounds(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
