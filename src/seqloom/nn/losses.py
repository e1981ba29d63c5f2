"""Ranking losses over a catalogue, from the exact softmax to one negative a target.

Each takes the hidden vectors at the positions that have a target, the output item vectors, and the targets
as rows of those vectors (0..N-1), and returns the mean over targets.

Shapes: hidden [M, D], weight [N, D], targets [M] int64.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.nn import fused_softmax
from seqloom.nn.linear import product

_CPU_CHUNK_BYTES = 12 << 20
_CPU_MOST_BYTES = 128 << 20
_DEVICE_CHUNK_BYTES = 512 << 20
_FEWEST_ROWS, _SHARING_ROWS = 16, 64
_MANY_ITEMS = 1 << 17
"""Catalogue size from which adding a product in place saves more than a faster library."""
_ROWS_MULTIPLE = 32
"""Chunks on a CPU have a multiple of this many rows: oneDNN keeps a kernel of 0.25 MiB for every shape."""


def chunk_rows(num_items: int, device: torch.device) -> int:
    """Returns the number of targets to score at a time, so that a chunk of logits fits the last-level cache.

    No cache holds the logits of a large catalogue. Since every chunk reads the item vectors and adds to
    their gradient, chunks then have more targets, as far as memory allows.
    """
    row = 4 * num_items
    if device.type != "cpu":
        return max(_FEWEST_ROWS, _DEVICE_CHUNK_BYTES // row)
    shared = min(_SHARING_ROWS, _CPU_MOST_BYTES // row)
    return max(_FEWEST_ROWS, shared, _CPU_CHUNK_BYTES // row)


class _LinearCrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy that computes its gradients in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk: int,
        offset: Tensor | None,
        columns: Tensor | None,
        terms: Tensor | None,
        padded: bool,
    ) -> Tensor:
        compute = _compute_type(hidden)
        hidden_c, weight_c = _whole_rows(hidden.to(compute), chunk), weight.to(compute)
        grad_hidden = hidden.new_empty(hidden_c.shape)
        # A frozen weight (a language model's output layer) needs no gradient. The gradient is kept
        # transposed, [D, N], so that its product reads the errors in memory order.
        turned = weight.new_zeros(weight.shape[::-1]) if ctx.needs_input_grad[1] else None
        grad_terms = None if terms is None else torch.empty_like(terms)
        loss = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden_c), chunk):
            rows, truth = hidden_c[start : start + chunk], targets[start : start + chunk]
            logits = product(rows, weight_c).float()  # [chunk, N]
            if offset is not None:
                logits += offset
            if columns is not None and terms is not None:
                at = columns[start : start + chunk]
                logits[: len(at)].scatter_add_(1, at, terms[start : start + chunk])
            # p - onehot(target), in the memory of the logits
            error, part = _softmax_error(logits, truth, padded=padded)
            loss += part
            if columns is not None and grad_terms is not None:
                at = columns[start : start + chunk]
                grad_terms[start : start + chunk] = error[: len(at)].gather(1, at)
            error = error.to(compute)
            # The chain rule at once, while the errors are in the cache: E W and H^T E.
            grad_hidden[start : start + chunk] = product(error, weight_c.t())
            if turned is not None:
                _add_product(turned, rows.t(), error)
        count = (targets >= 0).sum().clamp(min=1) if padded else len(hidden)
        grad_weight = None
        if turned is not None:
            grad_weight = turned.div_(count).t().contiguous()
        if grad_terms is not None:
            grad_terms.div_(count)
        ctx.save_for_backward(grad_hidden[: len(hidden)].div_(count), grad_weight, grad_terms)
        return loss / count

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_terms = ctx.saved_tensors
        (grad,) = grad_outputs  # scalar; the gradients are known from the forward pass
        return (
            grad_hidden * grad if ctx.needs_input_grad[0] else None,
            grad_weight * grad if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
            None,
            grad_terms * grad if ctx.needs_input_grad[6] else None,
            None,
        )


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Adds a @ b to `total`, in place where the result is large. Shapes: total [D, N], a [D, M], b [M, N]."""
    if b.shape[1] > _MANY_ITEMS and total.dtype == b.dtype:
        torch.addmm(total, a, b, out=total)
    else:
        total += product(a, b.t())


def _softmax_error(logits: Tensor, truth: Tensor, *, padded: bool = False) -> tuple[Tensor, Tensor]:
    """Returns the gradient of the summed cross-entropy by the logits, and its value; overwrites the logits.

    Padding rows after the M rows with a target add nothing; nor do, if `padded`, rows with the target -1.

    Shapes: logits [M', N] with M' of at least M, truth [M] -> [M', N], scalar.
    """
    logits[len(truth) :] = 0.0
    counted = logits[: len(truth)]
    ignored = (truth < 0)[:, None] if padded else None
    truth = truth.clamp(min=0) if padded else truth
    target_logit = counted.gather(1, truth[:, None])[:, 0]
    largest = counted.amax(1)
    probabilities = torch.softmax(counted, 1, out=counted)
    # -log p(target) = log-sum-exp - target logit, where log-sum-exp = largest logit - log(largest p).
    # The largest p is at least 1/N, so its logarithm is safe where the target's is not.
    values = largest - probabilities.amax(1).log() - target_logit
    probabilities[torch.arange(len(truth), device=truth.device), truth] -= 1.0
    if ignored is not None:
        probabilities.masked_fill_(ignored, 0.0)
        values = values.masked_fill(ignored[:, 0], 0.0)
    return logits, values.sum()


def _whole_rows(hidden: Tensor, chunk: int) -> Tensor:
    """Pads with zero rows on a CPU, so that chunks have few different sizes. Shapes: [M, D] -> [M', D]."""
    if hidden.device.type != "cpu":
        return hidden
    last = len(hidden) % chunk
    missing = min(-last % _ROWS_MULTIPLE, chunk - last) if last else 0
    return F.pad(hidden, (0, 0, 0, missing))


def _compute_type(hidden: Tensor) -> torch.dtype:
    """Returns the number format of products: that of autocast on a CUDA device, else that of the states."""
    if hidden.is_cuda and torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return hidden.dtype


def softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    chunk: int | None = None,
    offset: Tensor | None = None,
    terms: tuple[Tensor, Tensor] | None = None,
    padded: bool = False,
) -> Tensor:
    """Computes the exact softmax cross-entropy over all N items in memory of chunk x N instead of M x N.

    Equals `F.cross_entropy(hidden @ weight.t() + offset + terms, targets)` in value and gradients. Takes
    three matrix products: the gradient of the logits is used at once and never stored. On a CUDA device
    with Triton, products of 16 bits take the kernels of `fused_softmax`, unless there are `terms`.

    Args:
        chunk: number of targets to score at a time; the device decides if not given.
        offset: [N] constants added to the items' logits.
        terms: [M, S] rows of `weight` and [M, S] what is added to the target's logits of these, float32.
        padded: whether targets of -1 occur, which count for nothing; the mean is over the others.

    Raises:
        ValueError: there are no targets.
    """
    if not len(hidden):
        raise ValueError("softmax_loss needs at least one target")
    compute = _compute_type(hidden)
    if chunk is None and terms is None and fused_softmax.suits(hidden, weight, compute):
        return fused_softmax.fused_softmax_loss(
            hidden, weight, targets, offset=offset, compute=compute
        )
    rows = chunk or chunk_rows(len(weight), hidden.device)
    columns, added = (None, None) if terms is None else terms
    loss: Tensor = _LinearCrossEntropy.apply(
        hidden, weight, targets, rows, offset, columns, added, padded
    )
    return loss


def sampled_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    negatives: Tensor,
    log_expected: Tensor,
    *,
    offset: Tensor | None = None,
) -> Tensor:
    """Computes the softmax over the target and K negatives shared by the batch, with the logQ correction.

    Each negative's logit is lowered by the logarithm of its expected number among the K draws, which makes
    the loss an estimate of the full softmax. A negative that equals a row's own target is masked.

    Source: Bengio & Senecal 2008; Yi et al., RecSys 2019.

    Args:
        negatives: [K] item rows, drawn with replacement.
        log_expected: [N] logarithm of the expected number of draws of each item, log(K q_i).
        offset: [N] constants added to the items' logits.
    """
    target_logit = (hidden * weight[targets]).sum(1)  # [M]
    logits = hidden @ weight[negatives].t() - log_expected[negatives]  # [M, K]
    if offset is not None:
        target_logit, logits = target_logit + offset[targets], logits + offset[negatives]
    logits = logits.masked_fill(negatives == targets[:, None], float("-inf"))
    all_logits = torch.cat([target_logit[:, None], logits], 1)  # [M, 1 + K]
    return (torch.logsumexp(all_logits, 1) - target_logit).mean()


def binary_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    beta: float = 1.0,
    offset: Tensor | None = None,
) -> Tensor:
    """Computes the binary cross-entropy of the target against K negatives of its own.

    With `beta` below 1 this is gBCE, which undoes the overconfidence that sampling causes: the
    target's probability is raised to the power beta.

    Differs: log(beta / K) is added to all logits, so that the gradients of target and negatives balance
    where all logits are 0; the term is 0 for plain BCE with one negative. Without it, many negatives push
    all vectors in one direction at first, and training stays there for long.

    Source: Kang & McAuley 2018, eq. 6 (beta = 1, K = 1); Petrov & Macdonald, RecSys 2023, eq. 12.

    Args:
        negatives: [M, K] item rows.
        offset: [N] constants added to the items' logits.
    """
    start = math.log(beta / negatives.shape[1])
    positive = (hidden * weight[targets]).sum(1) + start  # [M]
    negative = torch.einsum("md,mkd->mk", hidden, weight[negatives]) + start  # [M, K]
    if offset is not None:
        positive, negative = positive + offset[targets], negative + offset[negatives]
    # -log sigmoid(s+)^beta - sum log(1 - sigmoid(s-))
    return (-beta * F.logsigmoid(positive) - F.logsigmoid(-negative).sum(1)).mean()


def gbce_beta(num_negatives: int, num_items: int, calibration: float) -> float:
    """Returns the exponent of gBCE: 1 for `calibration` 0 (plain BCE), the sampling rate for 1.

    Source: Petrov & Macdonald, RecSys 2023, eq. 14.
    """
    rate = num_negatives / (num_items - 1)
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)
