"""A projecting step as Triton kernels over all tensors of a group at once, in float32.

Three launches for each width of row: the first takes ⟨g,w⟩, ⟨g,g⟩, ⟨w,w⟩ of every row; a small one decides for every
tensor; the second updates the states and the weight, a row's ⟨u,w⟩ being known once its program has gone through the
row. That reads and writes every element 9 times, where Adam alone needs 7. The third launch is for tensors projected as
a whole layer, which is rare; elsewhere its programs end at once.

The arithmetic is checked without a GPU by Triton's interpreter (TRITON_INTERPRET=1, tests/parity/test_adamp_triton.py).
A step can be captured in a CUDA graph: nothing is allocated on the host and no number is read back.
"""

# Triton's own language has no types that a checker could follow
# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from paribus.techniques.adamp.kernels.params import AdamRule, Options, ParamTensors, ProjectionStats, UpdateRule

_TILE = 2048  # elements of a program's tile, in 4 warps: 16 a thread
_WIDTHS = (16, 128, 1024)  # columns of a tile; longer rows are processed in several passes
_PLAIN = {"num_warps": 4, "enable_fp_fusion": False}  # sums as on a CPU; memory is what costs
_FIELDS = 8  # of a table row: w, g, a, b, rows, length, size, first row in the sums; rows < 0: never projected


@triton.jit
def _locate_rows(units, table, ROWS: tl.constexpr):
    """This program's parameter, its row length and size, its rows, and their place in the sums."""
    param = tl.load(units + 2 * tl.program_id(0))
    row = tl.load(units + 2 * tl.program_id(0) + 1).to(tl.int64) + tl.arange(0, ROWS)
    rows = tl.load(table + param * 8 + 4)
    length = tl.load(table + param * 8 + 5)
    size = tl.load(table + param * 8 + 6)
    first = tl.load(table + param * 8 + 7)
    return param, length, size, row, row < tl.abs(rows), first + row


@triton.jit
def _tensor_pointer(table, param, field: tl.constexpr):
    return tl.load(table + param * 8 + field).to(tl.pointer_type(tl.float32))


@triton.jit
def _test_sums(units, table, sums, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    param, length, _, row, here, place = _locate_rows(units, table, ROWS)
    w, g = _tensor_pointer(table, param, 0), _tensor_pointer(table, param, 1)
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
    tl.store(sums + place * 4, gw, here)
    tl.store(sums + place * 4 + 1, gg, here)
    tl.store(sums + place * 4 + 2, ww, here)


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
    ONE: tl.constexpr,
    ADAM: tl.constexpr,
    NESTEROV: tl.constexpr,
    ALIAS: tl.constexpr,
):
    """ONE: a row is not longer than a tile. beta1, rest1 are momentum and 1 − dampening for SGD."""
    param, length, size, row, here, place = _locate_rows(units, table, ROWS)
    w, g, a, b = (
        _tensor_pointer(table, param, 0),
        _tensor_pointer(table, param, 1),
        _tensor_pointer(table, param, 2),
        _tensor_pointer(table, param, 3),
    )
    view = tl.load(views + param)
    rate, root = tl.load(rates + param * 4), tl.load(rates + param * 4 + 1)
    decay, scale = tl.load(rates + param * 4 + 2), tl.load(rates + param * 4 + 3)
    tested = tl.where(view == 1, tl.load(table + param * 8 + 4), 0)
    ww = tl.load(sums + place * 4 + 2, row < tested, 1.0)
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
        tl.store(sums + place * 4 + 3, uw, here)
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
    BLOCK: tl.constexpr,
    ADAM: tl.constexpr,
    NESTEROV: tl.constexpr,
    ALIAS: tl.constexpr,
):
    """Updates the weights of parameters that are projected as one row."""
    param, length, _, row, here, _ = _locate_rows(units, table, ROWS)
    if tl.load(views + param) == 2:
        w, g, a, b = (
            _tensor_pointer(table, param, 0),
            _tensor_pointer(table, param, 1),
            _tensor_pointer(table, param, 2),
            _tensor_pointer(table, param, 3),
        )
        rate, root = tl.load(rates + param * 4), tl.load(rates + param * 4 + 1)
        decay, scale = tl.load(rates + param * 4 + 2), tl.load(rates + param * 4 + 3)
        rows = tl.load(table + param * 8 + 4)
        first = tl.load(table + param * 8 + 7)
        uw = 0.0
        ww = 0.0
        for start in range(0, rows, BLOCK):
            r = start + tl.arange(0, BLOCK)
            uw += tl.sum(tl.load(sums + (first + r) * 4 + 3, r < rows, 0.0))
            ww += tl.sum(tl.load(sums + (first + r) * 4 + 2, r < rows, 0.0))
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
    plan = _plan(params, cache, device)
    table = _upload_table(params, plan, cache, device)
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
    for width, _, tested in plan["classes"]:
        if len(tested):
            tile = {"ROWS": _TILE // min(width, _WIDTHS[-1]), "WIDTH": min(width, _WIDTHS[-1])}
            _test_sums[(len(tested),)](tested, table, sums, **tile, **_PLAIN)
    _decide[(len(params),)](table, sums, rates, views, norms, *test, BLOCK=1024, **_PLAIN)
    for width, units, _ in plan["classes"]:
        tile = {"ROWS": _TILE // min(width, _WIDTHS[-1]), "WIDTH": min(width, _WIDTHS[-1])}
        one = width <= _WIDTHS[-1]
        _step[(len(units),)](units, table, sums, rates, views, *numbers, eps, ONE=one, **tile, **switches, **_PLAIN)
    for width, _, tested in plan["classes"]:
        if len(tested):
            tile = {"ROWS": _TILE // min(width, _WIDTHS[-1]), "WIDTH": min(width, _WIDTHS[-1])}
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


def _shape(param: ParamTensors) -> tuple[int, int]:
    """(rows, length). What is never projected is cut into rows of one tile's width; the last may be shorter."""
    size = param.weight.numel()
    if param.is_tested:
        return param.weight.shape[param.axis], size // param.weight.shape[param.axis]
    return -(-size // _WIDTHS[-1]), min(size, _WIDTHS[-1])


def _plan(params: list[ParamTensors], cache: dict[object, Any], device: torch.device) -> dict[str, Any]:
    """Which program has which rows of which parameter. Programs with long rows start first, so that none runs last."""
    shapes = tuple((*_shape(param), param.weight.numel(), param.is_tested) for param in params)
    key = ("units", shapes, device)
    if key in cache:
        return cache[key]
    units: dict[int, list[tuple[int, int, bool]]] = {}
    places: list[int] = []
    total = 0
    for i in sorted(range(len(shapes)), key=lambda i: -shapes[i][1]):
        rows, length, _, projects = shapes[i]
        width = next((w for w in _WIDTHS if length <= w), 2 * _WIDTHS[-1])
        step = _TILE // min(width, _WIDTHS[-1])
        units.setdefault(width, []).extend((i, row, projects) for row in range(0, rows, step))
    for rows, _, _, projects in shapes:
        places.append(total)
        total += rows if projects else 0

    def to_device(numbers: list[Any]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int32).reshape(-1, 2).to(device)

    cache[key] = {
        "shapes": shapes,
        "places": places,
        "rows": total,
        "classes": [
            (width, to_device([u[:2] for u in own]), to_device([u[:2] for u in own if u[2]]))
            for width, own in units.items()
        ],
        "tested": torch.tensor([i for i, shape in enumerate(shapes) if shape[3]], dtype=torch.int64).to(device),
        "seen": None,
        "table": torch.empty(len(params), _FIELDS, dtype=torch.int64, device=device),
        "staging": torch.empty(len(params), _FIELDS, dtype=torch.int64, pin_memory=device.type == "cuda"),
    }
    return cache[key]


def _upload_table(
    params: list[ParamTensors], plan: dict[str, Any], cache: dict[object, Any], device: torch.device
) -> Tensor:
    """Addresses and shapes on the device, sent only when an address has changed."""
    numbers: list[int] = []
    for param, (rows, length, size, projects), place in zip(params, plan["shapes"], plan["places"], strict=True):
        addresses = [x.data_ptr() for x in (param.weight, param.gradient, param.states[0], param.states[-1])]
        numbers += (*addresses, rows if projects else -rows, length, size, place)
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
        plan["staging"] = torch.empty(len(params), _FIELDS, dtype=torch.int64, pin_memory=device.type == "cuda")
    if plan["seen"] != numbers:
        plan["seen"] = numbers
        sent = torch.tensor(numbers).view(-1, _FIELDS)
        sent = sent.pin_memory() if device.type == "cuda" else sent
        plan["table"].copy_(sent, non_blocking=True)
    return plan["table"]
