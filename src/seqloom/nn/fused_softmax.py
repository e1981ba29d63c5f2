"""The exact softmax over a catalogue without logits in memory, by kernels of our own for CUDA devices.

The forward pass is attention whose keys and values are both the item vectors: one pass over the catalogue
gives each state's log-sum-exp and its softmax average of the item vectors, and the gradient of a state is
that average less the target's vector. The backward pass computes the logits once more, a block of items at
a time over all states, so each row of the table's gradient is summed by one program, in one order.
That takes four matrix products, where three with all logits in memory are the least.

Source: Milakov & Gimelshein 2018 (arXiv 1805.02867), section 3, the running log-sum-exp; Dao et al. 2022
    (arXiv 2205.14135), section 3.1, the running average; Wijmans et al. 2024, "Cut Your Losses" (arXiv
    2411.09009), sections 4.1 to 4.3, cross-entropy with logits in on-chip memory alone.
Differs: the authors of the last compute both gradients in the backward pass (five products), add to them
    from several programs under locks, and skip blocks of small probabilities. Here the state's gradient
    costs no further pass, nothing is skipped, and equal inputs give equal bits. Hsu et al. 2024
    (Liger Kernel, arXiv 2410.10989), section 3.2, keep a chunk of the logits in memory and compute the
    gradients beside it, as `losses.softmax_loss` does on a CPU.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

WIDEST = 256
"""Width of vectors beyond which a block of them and its sum no longer fit the registers of a program."""


@dataclass(frozen=True)
class Blocks:
    """Rows and items that a program of each pass handles at a time."""

    rows: int = 128
    items: int = 64
    gradient_rows: int = 64
    gradient_items: int = 128
    warps: int = 4
    stages: int = 3


def blocks_for(width: int) -> Blocks:
    """Returns the blocks for vectors of `width`. Not tuned: no measurement on a GPU stands behind them."""
    if width <= 64:
        return Blocks()
    if width <= 128:
        return Blocks(rows=128, items=64, gradient_items=64, warps=8, stages=2)
    return Blocks(rows=64, items=32, gradient_rows=32, gradient_items=64, warps=8, stages=2)


@cache
def is_usable(device: torch.device) -> bool:
    """Returns whether Triton is installed and compiles for this device; warns once if it does not compile."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    try:
        with torch.enable_grad():
            states = torch.ones(2, 16, device=device, dtype=torch.bfloat16, requires_grad=True)
            fused_softmax_loss(states, states, torch.arange(2, device=device)).backward()
        torch.cuda.synchronize(device)
    except Exception as error:  # no compiler, no driver of that version, ...
        warnings.warn(
            f"Triton cannot compile for {device} ({type(error).__name__}: {error}); the exact softmax "
            "computes its logits in memory, which takes longer",
            stacklevel=2,
        )
        return False
    return True


def suits(hidden: Tensor, weight: Tensor, compute: torch.dtype) -> bool:
    """Returns whether the kernels should take these.

    They should where products run on tensor cores (16 bits). In float32 the library's products are the cost,
    and a kernel of our own has nothing to save.

    Shapes: hidden [M, D], weight [N, D].
    """
    return (
        compute in (torch.bfloat16, torch.float16)
        and hidden.shape[1] <= WIDEST
        and weight.device == hidden.device
        and is_usable(hidden.device)
    )


class _FusedSoftmax(torch.autograd.Function):
    """Mean cross-entropy of states and the item table, with both gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        offset: Tensor | None,
        compute: torch.dtype,
        parts: int | None,
    ) -> Tensor:
        states = hidden.detach().to(compute).contiguous()
        table = weight.detach().to(compute).contiguous()
        largest, spread, average = softmax_average(
            states, table, offset, parts, averages=ctx.needs_input_grad[0]
        )
        real = targets >= 0
        count = real.sum().clamp(min=1)
        vectors = table[targets.clamp(min=0)].float()  # [M, D]
        logit = (states.float() * vectors).sum(1)
        if offset is not None:
            logit += offset[targets.clamp(min=0)]
        loss = torch.where(real, largest - logit + spread, 0.0).sum() / count
        gradient = None
        if average is not None:
            gradient = torch.where(real[:, None], average - vectors, 0.0) / count
        # Rows that count for nothing have probability 0 everywhere.
        largest = torch.where(real, largest, torch.inf)
        ctx.save_for_backward(states, table, targets, offset, largest, spread, count, gradient)
        ctx.types = hidden.dtype, weight.dtype
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        states, table, targets, offset, largest, spread, count, gradient = ctx.saved_tensors
        (grad,) = grad_outputs
        of_states, of_table = ctx.types
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = table_gradient(
                states, table, targets, offset, (largest, spread), grad / count, of_table
            )
        return (
            (gradient * grad).to(of_states) if gradient is not None else None,
            of_weight,
            None,
            None,
            None,
            None,
        )


def fused_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    offset: Tensor | None = None,
    compute: torch.dtype | None = None,
    parts: int | None = None,
) -> Tensor:
    """Computes the mean softmax cross-entropy over all N items; logits never reach the device's memory.

    Args:
        targets: rows of `weight`; -1 where a state has no target and counts for nothing.
        offset: [N] constants added to the items' logits.
        compute: number format of the products; sums are float32. Default: that of `hidden`.
        parts: parts of the catalogue that are computed side by side. Default: enough to fill the device.

    Shapes: hidden [M, D], weight [N, D], targets [M] -> scalar float32.
    """
    loss: Tensor = _FusedSoftmax.apply(
        hidden, weight, targets, offset, compute or hidden.dtype, parts
    )
    return loss


def softmax_average(
    states: Tensor, table: Tensor, offset: Tensor | None, parts: int | None, *, averages: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns each state's largest logit, what the log-sum-exp has beyond it, and its softmax average.

    Args:
        averages: whether to compute the average of the item vectors.

    Shapes: states [M, D], table [N, D], offset [N] -> [M], [M], [M, D], all float32.
    """
    from seqloom.nn.softmax_kernels import average_kernel

    (rows, width), items = states.shape, len(table)
    blocks = blocks_for(width)
    lines = -(-rows // blocks.rows)
    parts = parts or _parts(lines, -(-items // blocks.items), states.device)
    span = -(-items // (parts * blocks.items)) * blocks.items
    largest = states.new_empty(parts, rows, dtype=torch.float32)
    total = torch.empty_like(largest)
    average = states.new_empty(parts, rows, width if averages else 0, dtype=torch.float32)
    average_kernel[(lines, parts)](
        states,
        table,
        table if offset is None else offset,
        largest,
        total,
        average,
        rows,
        items,
        span,
        width=width,
        block_width=_padded(width),
        block_rows=blocks.rows,
        block_items=blocks.items,
        has_offset=offset is not None,
        averages=averages,
        precision="ieee",
        widen=states.device.type == "cpu",
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )
    return _join(largest, total, average if averages else None)


def table_gradient(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    offset: Tensor | None,
    levels: tuple[Tensor, Tensor],
    scale: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Returns the gradient of the item vectors: `scale` times the errors' product with the states.

    Args:
        levels: the first two results of `softmax_average`; infinity in the first where a row counts for
            nothing.

    Shapes: states [M, D], table [N, D], targets [M], offset [N], levels [M], scale scalar -> [N, D].
    """
    from seqloom.nn.softmax_kernels import table_gradient_kernel

    (rows, width), items = states.shape, len(table)
    blocks = blocks_for(width)
    gradient = torch.empty_like(table, dtype=dtype)
    table_gradient_kernel[(-(-items // blocks.gradient_items),)](
        states,
        table,
        table if offset is None else offset,
        targets,
        *levels,
        scale.float().reshape(1),
        gradient,
        rows,
        items,
        width=width,
        block_width=_padded(width),
        block_rows=blocks.gradient_rows,
        block_items=blocks.gradient_items,
        has_offset=offset is not None,
        precision="ieee",
        widen=states.device.type == "cpu",
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )
    return gradient


def _join(
    largest: Tensor, total: Tensor, average: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Joins the parts of the catalogue. Shapes: [P, M], [P, M], [P, M, D] -> [M], [M], [M, D]."""
    top = largest.amax(0)
    share = torch.exp(largest - top)  # [P, M], 0 for a part without items
    whole = (total * share).sum(0)
    if average is not None:
        average = (average * (share / whole)[..., None]).sum(0)
    return top, whole.log(), average


def _parts(lines: int, most: int, device: torch.device) -> int:
    """Returns how many parts fill the device's processors twice, given blocks of rows and of items."""
    if device.type != "cuda":
        return 1
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(most, -(-2 * processors // lines)))


def _padded(width: int) -> int:
    """Rounds up to a power of two of at least 16, which a product on tensor cores needs."""
    return max(16, 1 << (width - 1).bit_length())
