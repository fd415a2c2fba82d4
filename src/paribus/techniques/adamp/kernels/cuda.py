"""A projecting step as Triton kernels over all tensors of a group at once, in float32.

Three launches for each class of row (its width, and what is known of its addresses): the first takes ⟨g,w⟩, ⟨g,g⟩,
⟨w,w⟩ of every row; a small one decides for every tensor; the second updates the states and the weight, a row's ⟨u,w⟩
being known once its program has gone through the row. That reads and writes every element 9 times, where Adam alone
needs 7. The third launch is for tensors projected as a whole layer, which is rare; elsewhere its programs end at once.

ALIGNED: all rows begin at multiples of 16 bytes, so that four numbers are read or written at once. WIDE: offsets need
64 bits; with 32, a thread needs a third fewer registers.

Checked without a GPU: the arithmetic by Triton's interpreter (tests/parity/test_adamp_triton.py), and registers, spills
and the width of accesses by compiling ahead of time (tests/parity/test_kernels_ahead_of_time.py).
A step can be captured in a CUDA graph: nothing is allocated on the host and no number is read back.
"""

# Triton's own language has no types that a checker could follow
# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from paribus.techniques.adamp.kernels.params import AdamRule, Options, ParamTensors, ProjectionStats, UpdateRule

_TILE = 2048  # elements of a program's tile, in 8 warps: 8 a thread, or half of it where each needs its own address
_WIDTHS = (16, 128, 1024)  # columns of a tile; longer rows are processed in several passes
_PLAIN = {"num_warps": 8, "enable_fp_fusion": False}  # sums as on a CPU; memory is what costs
_OFFSETS = 2**31  # how many elements a 32-bit offset reaches
_ALIGNMENT = 16  # bytes; the widest access of a thread
_FIELDS = 8  # of a table row: w, g, a, b, rows, length, size, first row in the sums; rows < 0: never projected


@triton.jit
def _locate_rows(units, table, sums, ROWS: tl.constexpr, ALIGNED: tl.constexpr, WIDE: tl.constexpr):
    """This program's parameter, its row count (negative: never projected), row length and size, its rows, and their
    places in the sums."""
    param = tl.load(units + 2 * tl.program_id(0))
    row = tl.load(units + 2 * tl.program_id(0) + 1) + tl.arange(0, ROWS)
    rows = tl.load(table + param * 8 + 4)
    length = tl.load(table + param * 8 + 5)
    size = tl.load(table + param * 8 + 6)
    own = sums + tl.load(table + param * 8 + 7) * 4
    if WIDE:
        row = row.to(tl.int64)
    else:
        rows, length, size = rows.to(tl.int32), length.to(tl.int32), size.to(tl.int32)
    if ALIGNED:
        length, size = tl.multiple_of(length, 4), tl.multiple_of(size, 4)
    return param, rows, length, size, row, row < tl.abs(rows), own, own + row * 4


@triton.jit
def _tensor_pointer(table, param, field: tl.constexpr, ALIGNED: tl.constexpr):
    pointer = tl.load(table + param * 8 + field).to(tl.pointer_type(tl.float32))
    return tl.multiple_of(pointer, 16) if ALIGNED else pointer


@triton.jit
def _test_sums(
    units,
    table,
    sums,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    ALIGNED: tl.constexpr,
    WIDE: tl.constexpr,
):
    param, _, length, _, row, here, _, place = _locate_rows(units, table, sums, ROWS, ALIGNED, WIDE)
    w, g = _tensor_pointer(table, param, 0, ALIGNED), _tensor_pointer(table, param, 1, ALIGNED)
    gw = tl.zeros((ROWS,), tl.float32)
    gg = tl.zeros((ROWS,), tl.float32)
    ww = tl.zeros((ROWS,), tl.float32)
    for start in range(0, length, WIDTH):
        column = start + tl.arange(0, WIDTH)
        at = row[:, None] * length + column[None, :]
        inside = here[:, None] & (column < length)[None, :]
        x = tl.load(g + at, inside, 0.0)
        y = tl.load(w + at, inside, 0.0)
        gw += tl.sum(x * y, 1)
        gg += tl.sum(x * x, 1)
        ww += tl.sum(y * y, 1)
    tl.store(place, gw, here)
    tl.store(place + 1, gg, here)
    tl.store(place + 2, ww, here)


@triton.jit
def _cosine(gw, gg, ww, eps):
    return tl.abs(gw) / (tl.maximum(tl.sqrt(gg), eps) * tl.maximum(tl.sqrt(ww), eps))


@triton.jit
def _share(uw, ww, eps):
    length = tl.sqrt(ww) + eps
    return uw / length / length


@triton.jit
def _decide(table, sums, rates, views, norms, delta, wd_ratio, eps, BLOCK: tl.constexpr):
    """The view of a parameter (0 none, 1 channel, 2 layer), its ‖w‖, and its decay, which is changed in place."""
    param = tl.program_id(0)
    rows = tl.load(table + param * 8 + 4)
    length = tl.load(table + param * 8 + 5)
    first = tl.load(table + param * 8 + 7)
    gw = 0.0
    gg = 0.0
    ww = 0.0
    others = 0  # rows that are not orthogonal
    limit = delta / tl.sqrt(length.to(tl.float32))
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        x = tl.load(sums + (first + row) * 4, row < rows, 0.0)
        y = tl.load(sums + (first + row) * 4 + 1, row < rows, 0.0)
        z = tl.load(sums + (first + row) * 4 + 2, row < rows, 0.0)
        fits = _cosine(x, y, z, eps) < limit
        others += tl.sum(((row < rows) & (fits == 0)).to(tl.int32))
        gw += tl.sum(x)
        gg += tl.sum(y)
        ww += tl.sum(z)
    by_layer = _cosine(gw, gg, ww, eps) < delta / tl.sqrt((tl.abs(rows) * length).to(tl.float32))
    view = tl.where(others == 0, 1, tl.where(by_layer, 2, 0))
    view = tl.where(rows > 0, view, 0)
    decay = tl.load(rates + param * 4 + 2)
    tl.store(rates + param * 4 + 2, tl.where(view > 0, decay * wd_ratio, decay))
    tl.store(views + param, view)
    tl.store(norms + param, tl.sqrt(ww))


@triton.jit
def _change(g, a, b, rate, root, beta1, rest1, eps, ADAM: tl.constexpr, NESTEROV: tl.constexpr):
    """−rate·u from the gradient and the states."""
    if ADAM:
        ahead = beta1 * a + rest1 * g if NESTEROV else a
        return -rate * ahead / (tl.sqrt(b) * root + eps)
    else:
        return -rate * (g + beta1 * a if NESTEROV else a)


@triton.jit
def _step(
    units,
    table,
    sums,
    rates,
    views,
    beta1,
    rest1,
    beta2,
    rest2,
    eps,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    ALIGNED: tl.constexpr,
    WIDE: tl.constexpr,
    ONE: tl.constexpr,
    ADAM: tl.constexpr,
    NESTEROV: tl.constexpr,
    ALIAS: tl.constexpr,
):
    """ONE: a row is not longer than a tile. beta1, rest1 are momentum and 1 − dampening for SGD."""
    param, rows, length, size, row, here, _, place = _locate_rows(units, table, sums, ROWS, ALIGNED, WIDE)
    w, g, a, b = (
        _tensor_pointer(table, param, 0, ALIGNED),
        _tensor_pointer(table, param, 1, ALIGNED),
        _tensor_pointer(table, param, 2, ALIGNED),
        _tensor_pointer(table, param, 3, ALIGNED),
    )
    view = tl.load(views + param)
    rate, root = tl.load(rates + param * 4), tl.load(rates + param * 4 + 1)
    decay, scale = tl.load(rates + param * 4 + 2), tl.load(rates + param * 4 + 3)
    ww = tl.load(place + 2, row < tl.where(view == 1, rows, 0), 1.0)
    uw = tl.zeros((ROWS,), tl.float32)
    for start in range(0, length, WIDTH):
        column = start + tl.arange(0, WIDTH)
        at = row[:, None] * length + column[None, :]
        inside = here[:, None] & (column < length)[None, :] & (at < size)
        x = tl.load(g + at, inside, 0.0)
        y = tl.load(w + at, inside, 0.0)
        m = beta1 * tl.load(a + at, inside, 0.0) + rest1 * x
        tl.store(a + at, m, inside)
        if ADAM:
            v = beta2 * tl.load(b + at, inside, 0.0) + rest2 * x * x
            tl.store(b + at, v, inside)
        else:
            v = m
        change = _change(x, m, v, rate, root, beta1, rest1, eps, ADAM, NESTEROV)
        uw += tl.sum(change * y, 1)
        if ONE:  # the whole row is here
            along = tl.where(view == 1, _share(uw, ww, eps), 0.0)
            if view != 2:
                if ALIAS:
                    tl.store(a + at, m + along[:, None] * y, inside)
                tl.store(w + at, y + (scale * change - (decay + scale * along)[:, None] * y), inside)
        else:
            if view == 0:
                tl.store(w + at, y + (scale * change - decay * y), inside)
    if view == 2:
        tl.store(place + 3, uw, here)
    if not ONE:  # noqa: SIM102  # known when compiled, the view is not
        if view == 1:
            tl.debug_barrier()  # the states just written may be read by another thread of this program
            along = _share(uw, ww, eps)
            for start in range(0, length, WIDTH):
                column = start + tl.arange(0, WIDTH)
                at = row[:, None] * length + column[None, :]
                inside = here[:, None] & (column < length)[None, :]
                _recompute_and_move(
                    w, g, a, b, at, inside, rate, root, beta1, rest1, eps, decay, scale, along, ADAM, NESTEROV, ALIAS
                )


@triton.jit
def _recompute_and_move(
    w,
    g,
    a,
    b,
    at,
    inside,
    rate,
    root,
    beta1,
    rest1,
    eps,
    decay,
    scale,
    along,
    ADAM: tl.constexpr,
    NESTEROV: tl.constexpr,
    ALIAS: tl.constexpr,
):
    """Recomputes the update from the states, and applies it to the weight."""
    y = tl.load(w + at, inside, 0.0)
    m = tl.load(a + at, inside, 0.0)
    x = m
    v = m
    if NESTEROV:
        x = tl.load(g + at, inside, 0.0)
    if ADAM:
        v = tl.load(b + at, inside, 0.0)
    change = _change(x, m, v, rate, root, beta1, rest1, eps, ADAM, NESTEROV)
    if ALIAS:
        tl.store(a + at, m + along[:, None] * y, inside)
    tl.store(w + at, y + (scale * change - (decay + scale * along)[:, None] * y), inside)


@triton.jit
def _layer(
    units,
    table,
    sums,
    rates,
    views,
    beta1,
    rest1,
    eps,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    ALIGNED: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    ADAM: tl.constexpr,
    NESTEROV: tl.constexpr,
    ALIAS: tl.constexpr,
):
    """Updates the weights of parameters that are projected as one row."""
    param, rows, length, _, row, here, own, _ = _locate_rows(units, table, sums, ROWS, ALIGNED, WIDE)
    if tl.load(views + param) == 2:
        w, g, a, b = (
            _tensor_pointer(table, param, 0, ALIGNED),
            _tensor_pointer(table, param, 1, ALIGNED),
            _tensor_pointer(table, param, 2, ALIGNED),
            _tensor_pointer(table, param, 3, ALIGNED),
        )
        rate, root = tl.load(rates + param * 4), tl.load(rates + param * 4 + 1)
        decay, scale = tl.load(rates + param * 4 + 2), tl.load(rates + param * 4 + 3)
        uw = 0.0
        ww = 0.0
        for start in range(0, rows, BLOCK):
            r = start + tl.arange(0, BLOCK)
            uw += tl.sum(tl.load(own + r * 4 + 3, r < rows, 0.0))
            ww += tl.sum(tl.load(own + r * 4 + 2, r < rows, 0.0))
        along = tl.zeros((ROWS,), tl.float32) + _share(uw, ww, eps)
        for start in range(0, length, WIDTH):
            column = start + tl.arange(0, WIDTH)
            at = row[:, None] * length + column[None, :]
            inside = here[:, None] & (column < length)[None, :]
            _recompute_and_move(
                w, g, a, b, at, inside, rate, root, beta1, rest1, eps, decay, scale, along, ADAM, NESTEROV, ALIAS
            )


def take_step(
    rule: UpdateRule, options: Options, params: list[ParamTensors], cache: dict[object, Any]
) -> list[ProjectionStats]:
    """One step of float32 parameters whose rows are outermost in memory. cache: a dict that lives from step to step."""
    if isinstance(rule, AdamRule):
        torch._foreach_add_([param.step for param in params if param.step is not None], 1)
    params = [param for param in params if param.weight.numel()]
    if not params:
        return []
    device = params[0].weight.device
    addresses = [
        tuple([x.data_ptr() for x in (param.weight, param.gradient, param.states[0], param.states[-1])])
        for param in params
    ]
    plan = _plan([_shape(param, own) for param, own in zip(params, addresses, strict=True)], cache, device)
    table = _upload_table(addresses, plan, cache, device)
    rates = _build_rates(rule, options, params, device)
    sums = torch.empty(max(1, plan["rows"]), 4, dtype=torch.float32, device=device)
    views = torch.empty(len(params), dtype=torch.int32, device=device)
    norms = torch.empty(len(params), dtype=torch.float32, device=device)
    adam = isinstance(rule, AdamRule)
    if adam:
        numbers = (rule.beta1, 1 - rule.beta1, rule.beta2, 1 - rule.beta2)
        switches = {"ADAM": True, "NESTEROV": rule.nesterov, "ALIAS": False}
    else:
        numbers = (rule.momentum, 1 - rule.dampening, 0.0, 0.0)
        switches = {"ADAM": False, "NESTEROV": rule.nesterov, "ALIAS": rule.alias and not rule.nesterov}
    eps, test = options.eps, (options.delta, options.wd_ratio, options.eps)
    for tile, _, _, tested in plan["classes"]:
        if len(tested):
            _test_sums[(len(tested),)](tested, table, sums, **tile, **_PLAIN)
    _decide[(len(params),)](table, sums, rates, views, norms, *test, BLOCK=1024, **_PLAIN)
    for tile, one, units, _ in plan["classes"]:
        _step[(len(units),)](units, table, sums, rates, views, *numbers, eps, ONE=one, **tile, **switches, **_PLAIN)
    for tile, _, _, tested in plan["classes"]:
        if len(tested):
            own = (tested, table, sums, rates, views, *numbers[:2], eps)
            _layer[(len(tested),)](*own, BLOCK=1024, **tile, **switches, **_PLAIN)
    if not options.collects_stats:
        return []
    index = plan["tested"]
    view = views.index_select(0, index)
    return [ProjectionStats(view == 1, view == 2, norms.index_select(0, index))]


def _build_rates(rule: UpdateRule, options: Options, params: list[ParamTensors], device: torch.device) -> Tensor:
    """(parameters, 4): lr/(1−β₁ᵗ), 1/√(1−β₂ᵗ), lr·decay, 1; for an aliased buffer, which is projected whatever lr is,
    the first is 1 and the last lr."""
    made = torch.ones(len(params), 4, dtype=torch.float64, device=device)
    lr = options.lr.to(device, non_blocking=True) if isinstance(options.lr, Tensor) else options.lr
    if isinstance(rule, AdamRule):
        t = torch.stack([param.step for param in params if param.step is not None]).double()
        made[:, 0] = lr / (1 - rule.beta1**t)
        made[:, 1] = (1 - rule.beta2**t).rsqrt()
    else:
        made[:, 3 if rule.alias and not rule.nesterov else 0].mul_(lr)
    made[:, 2].mul_(lr * options.decay)
    return made.float()


class _Shape(NamedTuple):  # hundreds are made in a step, and a dataclass costs three times as much
    """A parameter's rows. What is never projected is cut into rows of one tile's width; the last may be shorter."""

    rows: int
    length: int
    size: int
    is_tested: bool
    is_aligned: bool  # whether every row of all its tensors begins at a multiple of 16 bytes
    is_wide: bool  # whether offsets need 64 bits


def _shape(param: ParamTensors, addresses: tuple[int, ...]) -> _Shape:
    size = param.weight.numel()
    if param.is_tested:
        rows, length = param.weight.shape[param.axis], size // param.weight.shape[param.axis]
    else:
        rows, length = -(-size // _WIDTHS[-1]), min(size, _WIDTHS[-1])
    # a gradient may be a view into a bucket, and begin anywhere
    is_aligned = length % 4 == size % 4 == 0 and all([address % _ALIGNMENT == 0 for address in addresses])
    return _Shape(rows, length, size, param.is_tested, is_aligned, _needs_wide_offsets(rows, length))


def _needs_wide_offsets(rows: int, length: int) -> bool:
    """A row has 4 sums, and a loop counts up to one tile past the end."""
    return rows * max(length, 4) + _TILE >= _OFFSETS


def _plan(shapes: list[_Shape], cache: dict[object, Any], device: torch.device) -> dict[str, Any]:
    """Which program has which rows of which parameter. Programs with long rows start first, so that none runs last."""
    key = ("units", tuple(shapes), device)
    if key in cache:
        return cache[key]
    units: dict[tuple[int, bool, bool], list[tuple[int, int, bool]]] = {}
    places: list[int] = []
    total = 0
    for i in sorted(range(len(shapes)), key=lambda i: -shapes[i].length):
        shape = shapes[i]
        width = next((w for w in _WIDTHS if shape.length <= w), 2 * _WIDTHS[-1])
        kind = (width, shape.is_aligned, shape.is_wide)
        step = _tile(*kind)["ROWS"]
        units.setdefault(kind, []).extend((i, row, shape.is_tested) for row in range(0, shape.rows, step))
    for shape in shapes:
        places.append(total)
        total += shape.rows if shape.is_tested else 0

    def to_device(numbers: list[Any]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int32).reshape(-1, 2).to(device)

    cache[key] = {
        "shapes": shapes,
        "places": places,
        "rows": total,
        "classes": [
            (
                _tile(*kind),
                kind[0] <= _WIDTHS[-1],
                to_device([u[:2] for u in own]),
                to_device([u[:2] for u in own if u[2]]),
            )
            for kind, own in units.items()
        ],
        "tested": torch.tensor([i for i, shape in enumerate(shapes) if shape.is_tested], dtype=torch.int64).to(device),
        "seen": None,
        "table": torch.empty(len(shapes), _FIELDS, dtype=torch.int64, device=device),
        "staging": torch.empty(len(shapes), _FIELDS, dtype=torch.int64, pin_memory=device.type == "cuda"),
    }
    return cache[key]


def _tile(width: int, is_aligned: bool, is_wide: bool) -> dict[str, Any]:
    """The constants that a class of rows is compiled for."""
    columns = min(width, _WIDTHS[-1])
    return {
        "ROWS": (_TILE if is_aligned else _TILE // 2) // columns,
        "WIDTH": columns,
        "ALIGNED": is_aligned,
        "WIDE": is_wide,
    }


def _upload_table(
    addresses: list[tuple[int, ...]], plan: dict[str, Any], cache: dict[object, Any], device: torch.device
) -> Tensor:
    """Addresses and shapes on the device, sent only when an address has changed."""
    numbers: list[int] = []
    for own, shape, place in zip(addresses, plan["shapes"], plan["places"], strict=True):
        numbers += (*own, shape.rows if shape.is_tested else -shape.rows, shape.length, shape.size, place)
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        # replays read the staging area again: it now belongs to this capture
        table, staging = torch.empty_like(plan["table"]), plan["staging"]
        cache.setdefault("captured", []).append((table, staging))
        plan["staging"] = None
        if staging is None:
            raise RuntimeError("one optimizer's step was captured twice; take a step outside a capture in between")
        staging.copy_(torch.tensor(numbers).view(-1, _FIELDS))
        return table.copy_(staging, non_blocking=True)
    if plan["staging"] is None:
        plan["staging"] = torch.empty(len(addresses), _FIELDS, dtype=torch.int64, pin_memory=device.type == "cuda")
    if plan["seen"] != numbers:
        plan["seen"] = numbers
        sent = torch.tensor(numbers).view(-1, _FIELDS)
        sent = sent.pin_memory() if device.type == "cuda" else sent
        plan["table"].copy_(sent, non_blocking=True)
    return plan["table"]
