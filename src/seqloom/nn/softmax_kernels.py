"""Triton kernels of the exact softmax over a catalogue; imported where Triton is present only.

An exponential is an `exp2` of a difference of logits, which keeps the digits that large logits would lose.
"""

from __future__ import annotations

import triton
import triton.language as tl

_PER_E = tl.constexpr(1.4426950408889634)
"""log2(e)."""


@triton.jit
def _product(left, right, precision: tl.constexpr, widen: tl.constexpr):
    """Multiplies with float32 sums. Triton's interpreter, on a CPU, needs bfloat16 widened before it."""
    if widen:
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, input_precision=precision)


@triton.jit(do_not_specialize=["num_rows", "span"])
def average_kernel(
    hidden,
    table,
    offset,
    largest,
    total,
    average,
    num_rows,
    num_items,
    span,
    width: tl.constexpr,
    block_width: tl.constexpr,
    block_rows: tl.constexpr,
    block_items: tl.constexpr,
    has_offset: tl.constexpr,
    averages: tl.constexpr,
    precision: tl.constexpr,
    widen: tl.constexpr,
):
    """Computes one block of rows over one part of the catalogue, `span` items.

    Writes the largest logit of each row, the sum of the exponentials relative to it, and their sum times
    the item vectors. Parts are joined by `fused_softmax`.

    Shapes: hidden [M, D], table [N, D], offset [N] -> largest and total [P, M], average [P, M, D].
    """
    rows = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    part = tl.program_id(1)
    widths = tl.arange(0, block_width)
    in_row, in_width = rows < num_rows, widths < width
    spot = rows[:, None].to(tl.int64) * width + widths[None, :]
    inside = in_row[:, None] & in_width[None, :]
    states = tl.load(hidden + spot, mask=inside, other=0.0)
    top = tl.full([block_rows], float("-inf"), tl.float32)
    summed = tl.zeros([block_rows], tl.float32)
    mixed = tl.zeros([block_rows, block_width], tl.float32)
    end = tl.minimum((part + 1) * span, num_items)
    for start in range(part * span, end, block_items):
        items = start + tl.arange(0, block_items)
        real = items < end
        at = items[:, None].to(tl.int64) * width + widths[None, :]
        vectors = tl.load(table + at, mask=real[:, None] & in_width[None, :], other=0.0)
        logits = _product(states, tl.trans(vectors), precision, widen)
        if has_offset:
            logits += tl.load(offset + items, mask=real, other=0.0)[None, :]
        logits = tl.where(real[None, :], logits, float("-inf"))
        higher = tl.maximum(top, tl.max(logits, 1))
        shrink = tl.exp2((top - higher) * _PER_E)
        weights = tl.exp2((logits - higher[:, None]) * _PER_E)
        summed = summed * shrink + tl.sum(weights, 1)
        if averages:
            mixed = mixed * shrink[:, None]
            mixed += _product(weights.to(vectors.dtype), vectors, precision, widen)
        top = higher
    line = part.to(tl.int64) * num_rows + rows
    tl.store(largest + line, top, mask=in_row)
    tl.store(total + line, summed, mask=in_row)
    if averages:
        tl.store(average + line[:, None] * width + widths[None, :], mixed, mask=inside)


@triton.jit(do_not_specialize=["num_rows"])
def table_gradient_kernel(
    hidden,
    table,
    offset,
    targets,
    largest,
    spread,
    scale,
    gradient,
    num_rows,
    num_items,
    width: tl.constexpr,
    block_width: tl.constexpr,
    block_rows: tl.constexpr,
    block_items: tl.constexpr,
    has_offset: tl.constexpr,
    precision: tl.constexpr,
    widen: tl.constexpr,
):
    """Computes the gradient of one block of items over all rows; no other program adds to it.

    The log-sum-exp of a row is the sum of its `largest` logit, infinite where it counts for nothing, and
    `spread`. Both are subtracted one after the other: their sum would lose the digits of large logits.

    Shapes: hidden [M, D], table [N, D], offset [N], targets, largest and spread [M], scale [1]
    -> gradient [N, D].
    """
    items = tl.program_id(0) * block_items + tl.arange(0, block_items)
    widths = tl.arange(0, block_width)
    real, in_width = items < num_items, widths < width
    spot = items[:, None].to(tl.int64) * width + widths[None, :]
    inside = real[:, None] & in_width[None, :]
    vectors = tl.load(table + spot, mask=inside, other=0.0)
    if has_offset:
        shift = tl.load(offset + items, mask=real, other=0.0)
    summed = tl.zeros([block_items, block_width], tl.float32)
    for start in range(0, num_rows, block_rows):
        rows = start + tl.arange(0, block_rows)
        in_row = rows < num_rows
        at = rows[:, None].to(tl.int64) * width + widths[None, :]
        states = tl.load(hidden + at, mask=in_row[:, None] & in_width[None, :], other=0.0)
        logits = _product(vectors, tl.trans(states), precision, widen)
        if has_offset:
            logits += shift[:, None]
        top = tl.load(largest + rows, mask=in_row, other=float("inf"))
        rest = tl.load(spread + rows, mask=in_row, other=0.0)
        truth = tl.load(targets + rows, mask=in_row, other=-1)
        error = tl.exp2((logits - top[None, :] - rest[None, :]) * _PER_E)
        error = tl.where(items[:, None] == truth[None, :], error - 1.0, error)
        summed += _product(error.to(states.dtype), states, precision, widen)
    tl.store(gradient + spot, summed * tl.load(scale), mask=inside)
