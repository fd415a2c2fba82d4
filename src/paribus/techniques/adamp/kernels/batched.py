"""A projecting step in operations on whole lists of tensors, for CPU and CUDA. The default.

Adam's own part is torch's fused kernel, pointed at a tensor of zeros instead of the weight: what it leaves there is the
update. The row sums follow, tensor by tensor; the decisions of all tensors of a batch are made together
on the concatenated sums, on the device. On a CPU a batch is gone through in bites that stay in the cache, and a large
tensor is cut into bites by rows.

Not with dot products of MKL, which depend on where a tensor happens to lie; torch's sums do not.
"""

# torch's operations on lists have no public names
# pyright: reportPrivateImportUsage=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paribus.techniques.adamp.kernels.leaves import Adam, Leaf, Momentum, Options, Rule, Seen, in_memory, threshold

_CPU_BATCH, _CPU_BITE = 1 << 21, 1 << 18  # elements; smaller bites cost more calls than they save misses
_BATCH = 1 << 26  # on a GPU launches count, and memory for two more copies of this much


@dataclass(frozen=True)
class Plan:
    """Which rows belong to which tensor of a batch."""

    lengths: Tensor  # (tensors,) rows of each
    owner: Tensor  # (rows,) the tensor of each
    row_threshold: Tensor  # (tensors,)
    layer_threshold: Tensor  # (tensors,)


Kept = dict[object, Any]


class Piece(NamedTuple):  # hundreds are made in a step, and a dataclass costs three times as much
    """Some rows of a leaf, or all: (rows, inner), or (outer, rows, inner), as they lie in memory."""

    weight: Tensor
    gradient: Tensor
    states: tuple[Tensor, ...]
    change: Tensor  # −rate·u
    step: Tensor | None


def move(rule: Rule, options: Options, leaves: list[Leaf], kept: Kept) -> list[Seen]:
    """One step of dense leaves on one device and in one dtype; weights and states change in place.

    kept: a dict that lives from step to step; in a captured step nothing is copied to the device.
    """
    device = leaves[0].weight.device
    if isinstance(rule, Adam):
        steps = [leaf.step for leaf in leaves if leaf.step is not None]
        # on the CPU a number would become a tensor for every counter anew
        torch._foreach_add_(steps, [torch.ones(())] * len(steps) if device.type == "cpu" else 1)
    lr = options.lr.to(device, non_blocking=True) if isinstance(options.lr, Tensor) else options.lr
    plain = [leaf for leaf in leaves if not leaf.projects and leaf.weight.numel()]
    if plain:
        _move_plain(rule, options, lr, plain)
    size = _CPU_BATCH if device.type == "cpu" else _BATCH
    return [_move_batch(rule, options, lr, batch, kept) for batch in _batches(leaves, size)]


def _batches(leaves: list[Leaf], size: int) -> Iterator[list[Leaf]]:
    batch: list[Leaf] = []
    elements = 0
    for leaf in leaves:
        if leaf.projects:
            batch.append(leaf)
            elements += leaf.weight.numel()
        if elements >= size:
            yield batch
            batch, elements = [], 0
    if batch:
        yield batch


def _move_plain(rule: Rule, options: Options, lr: float | Tensor, leaves: list[Leaf]) -> None:
    """w ← w(1 − lr·decay) − lr·u."""
    weights = [leaf.weight for leaf in leaves]
    if options.decay:
        torch._foreach_mul_(weights, 1 - lr * options.decay)
    later = isinstance(lr, Tensor)
    changes = [torch.zeros_like(weight) for weight in weights] if later else weights
    pieces = [Piece(x.weight, x.gradient, x.states, c, x.step) for x, c in zip(leaves, changes, strict=True)]
    _subtract_update(rule, options.eps, 1.0 if isinstance(lr, Tensor) else lr, pieces)
    if later:
        torch._foreach_add_(weights, torch._foreach_mul(changes, lr))


def _move_batch(rule: Rule, options: Options, lr: float | Tensor, leaves: list[Leaf], kept: Kept) -> Seen:
    """w ← w(1 − lr·decay·ratio) − lr·(u − along·w), as w·factor + change with one factor for each row."""
    aliased = isinstance(rule, Momentum) and rule.alias and not rule.nesterov
    later = aliased or isinstance(lr, Tensor)  # then the update is multiplied with lr at the end, in one more pass
    shapes = [in_memory(leaf) for leaf in leaves]
    pieces = _pieces(leaves, shapes, kept)
    sums = [_sums(rule, options.eps, lr if not later else 1.0, bite, kept) for bite in _bites(pieces)]
    gw, uw, g, w = (torch.cat([x for bite in sums for x in bite[i]]) for i in range(4))

    plan = _plan(shapes, leaves, options.delta, kept)
    along, seen = _decide(gw, uw, g, w, plan, options.eps)
    ratio = torch.ones_like(seen.norm).masked_fill_(seen.channel | seen.layer, options.wd_ratio)
    decay = (ratio * (lr * options.decay)).index_select(0, plan.owner)
    factor = 1 - decay - (along * lr if later else along)
    rows = [piece.weight.shape[-2] for piece in pieces]
    if aliased:  # a change is −u here, and so is what is along the weight
        for piece, share in zip(pieces, along.split(rows), strict=True):
            piece.states[0].addcmul_(piece.weight, share.unsqueeze(-1))
    for piece, f in zip(pieces, factor.split(rows), strict=True):
        change = piece.change.mul_(lr) if later else piece.change
        piece.weight.mul_(f.unsqueeze(-1)).add_(change)
    return seen


def _pieces(leaves: list[Leaf], shapes: list[tuple[int, int, int]], kept: Kept) -> list[Piece]:
    weight = leaves[0].weight
    room = _zeros(sum(leaf.weight.numel() for leaf in leaves), weight, kept)
    pieces: list[Piece] = []
    start = 0
    for leaf, (outer, rows, inner) in zip(leaves, shapes, strict=True):
        shape, strides = ((rows, inner), (inner, 1)) if outer == 1 else ((outer, rows, inner), (rows * inner, inner, 1))
        all_ = [x.as_strided(shape, strides) for x in (leaf.weight, leaf.gradient, *leaf.states)]
        all_.append(room.as_strided(shape, strides, start))
        start += leaf.weight.numel()
        cut = max(1, _CPU_BITE // inner)
        if outer == 1 and rows > cut and weight.device.type == "cpu":
            parts = zip(*(x.split(cut) for x in all_), strict=True)
        else:
            parts = [tuple(all_)]
        pieces += [Piece(w, g, tuple(states), change, leaf.step) for w, g, *states, change in parts]
    return pieces


def _zeros(size: int, weight: Tensor, kept: Kept) -> Tensor:
    """On the CPU in memory that is kept: what is new every step would have to be mapped page by page."""
    if weight.device.type != "cpu":
        return torch.zeros(size, dtype=weight.dtype, device=weight.device)
    return _kept(size, "changes", weight, kept)  # zeroed bite by bite


def _kept(size: int, name: str, weight: Tensor, kept: Kept) -> Tensor:
    room = kept.get((name, weight.dtype))
    if room is None or room.numel() < size:
        room = kept[name, weight.dtype] = torch.empty(size, dtype=weight.dtype, device=weight.device)
    return room[:size]


def _bites(pieces: list[Piece]) -> Iterator[list[Piece]]:
    if pieces[0].weight.device.type != "cpu":
        yield pieces
        return
    bite: list[Piece] = []
    elements = 0
    for piece in pieces:
        size = piece.weight.numel()
        if bite and elements + size > _CPU_BITE:
            yield bite
            bite, elements = [], 0
        bite.append(piece)
        elements += size
    yield bite


def _sums(rule: Rule, eps: float, rate: Any, bite: list[Piece], kept: Kept) -> tuple[list[Tensor], ...]:
    """Makes the update of each piece, and takes ⟨g,w⟩, ⟨−rate·u,w⟩, ‖g‖, ‖w‖ of its rows."""
    if bite[0].weight.device.type != "cpu":
        weights, gradients, changes = ([getattr(p, n) for p in bite] for n in ("weight", "gradient", "change"))
        _subtract_update(rule, eps, rate, bite)
        gw = [_sum(x) for x in torch._foreach_mul(gradients, weights)]
        uw = [_sum(x) for x in torch._foreach_mul(changes, weights)]
        return gw, uw, [_norm(x) for x in gradients], [_norm(x) for x in weights]
    torch._foreach_zero_([piece.change for piece in bite])
    _subtract_update(rule, eps, rate, bite)
    room = _kept(max(piece.weight.numel() for piece in bite), "products", bite[0].weight, kept)
    gw, uw, g, w = [], [], [], []
    for piece in bite:
        product = room.as_strided(piece.weight.shape, piece.weight.stride())
        uw.append(_sum(torch.mul(piece.change, piece.weight, out=product)))
        gw.append(_sum(torch.mul(piece.gradient, piece.weight, out=product)))
        w.append(_norm(piece.weight))
        g.append(_norm(piece.gradient))
    return gw, uw, g, w


def _sum(x: Tensor) -> Tensor:
    return x.sum(1) if x.ndim == 2 else x.sum((0, 2))


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1 if x.ndim == 2 else (0, 2))


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


def _subtract_update(rule: Rule, eps: float, rate: float, pieces: list[Piece]) -> None:
    """change ← change − rate·u; the states are brought up to date."""
    changes, gradients = [p.change for p in pieces], [p.gradient for p in pieces]
    states = [p.states[0] for p in pieces]
    if isinstance(rule, Momentum):
        _subtract_momentum(rule, rate, changes, gradients, states)
        return
    if rule.nesterov:  # the kernel's own m, from one more step of m, is then the look-ahead
        torch._foreach_lerp_(states, gradients, 1 - rule.beta1)
        states = torch._foreach_clone(states)
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
    sgd: Momentum, rate: float, changes: list[Tensor], gradients: list[Tensor], buffers: list[Tensor]
) -> None:
    # torch's fused SGD keeps no buffer without momentum, and cannot be traced
    torch._foreach_mul_(buffers, sgd.momentum)
    torch._foreach_add_(buffers, gradients, alpha=1 - sgd.dampening)
    u = torch._foreach_add(gradients, buffers, alpha=sgd.momentum) if sgd.nesterov else buffers
    torch._foreach_add_(changes, u, alpha=-rate)


def _plan(shapes: list[tuple[int, int, int]], leaves: list[Leaf], delta: float, kept: Kept) -> Plan:
    weight = leaves[0].weight
    key = (tuple(shapes), delta, weight.device, weight.dtype)
    if key not in kept:
        rows = [shape[1] for shape in shapes]
        sizes = [leaf.weight.numel() for leaf in leaves]
        lengths = torch.tensor(rows)
        numbers = (
            lengths,
            torch.arange(len(rows)).repeat_interleave(lengths, output_size=sum(rows)),
            torch.tensor([threshold(delta, n // r) for n, r in zip(sizes, rows, strict=True)], dtype=weight.dtype),
            torch.tensor([threshold(delta, n) for n in sizes], dtype=weight.dtype),
        )
        kept[key] = Plan(*(x.to(weight.device, non_blocking=True) for x in numbers))
    return kept[key]
