"""Fits the weights of an ensemble on the validation part."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqloom.core.protocols import Scorer
from seqloom.data.store import HeldOut
from seqloom.systems.ensemble.candidates import Candidates

_ROWS_AT_ONCE = 1024
_USERS_AT_ONCE = 256
_CUT = 10
_FIRST_STEP, _LAST_STEP = 0.5, 0.03
"""First and last change of a weight's logarithm in the search for NDCG; halved when none helps."""

Floats = npt.NDArray[np.float64]


def fit_likelihood(candidates: Candidates, l2: float) -> Tensor:
    """Returns weights that maximise the mean log-likelihood of the targets under softmax(sum of w_m s_m).

    With a_m = w_m times the spread of member m's scores, which has no unit, the objective is
    mean log p - l2 * sum of (a_m - mean a)^2 over a_m >= 0. It is concave, so L-BFGS-B finds the
    global optimum from any start. No weight is negative.

    Source: a logarithmic opinion pool (Genest and Zidek 1986), fitted as multinomial logistic regression.

    Shapes: -> [M] float64.
    """
    from scipy.optimize import minimize

    spread = candidates.spread.clamp(min=1e-12).numpy()

    def loss(a: Floats) -> tuple[float, Floats]:
        value, gradient = _negative_log_likelihood(candidates, torch.from_numpy(a / spread))
        deviation = a - a.mean()
        return value + l2 * float(deviation @ deviation), gradient / spread + 2.0 * l2 * deviation

    start = np.full(len(spread), 1.0 / len(spread))
    bounds = [(0.0, None)] * len(spread)
    optimum = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights = torch.from_numpy(optimum.x / spread)
    return weights if float(weights.sum()) > 0 else torch.from_numpy(start / spread)


def search_ndcg(candidates: Candidates, start: Tensor) -> Tensor:
    """Returns weights with a higher NDCG@10, by coordinate search; ties keep the earlier weights.

    A weight of 0 stays 0. The sum of the weights, which does not change ranks, stays that of `start`.

    Shapes: start [M] -> [M] float64.
    """
    logs, step = start.double().log(), _FIRST_STEP
    reached = ndcg(candidates, logs.exp())
    while step >= _LAST_STEP:
        better = False
        for member in range(len(logs)):
            for change in (step, -step):
                tried = logs.clone()
                tried[member] += change
                value = ndcg(candidates, tried.exp())
                if value > reached:
                    logs, reached, better = tried, value, True
        step = step if better else step / 2
    weights = logs.exp()
    return weights * (start.double().sum() / weights.sum())


def ndcg(candidates: Candidates, weights: Tensor) -> float:
    """Returns the mean NDCG@10 of the targets; a sampled candidate counts as the items it represents.

    Shapes: weights [M].
    """
    total = 0.0
    for scores, log_count in _parts(candidates):
        mixed = scores @ weights.float()  # [B, C]
        above = log_count.exp() * (mixed >= mixed[:, :1])
        rank = above.double().sum(1)  # the target itself is one of them
        total += float(torch.where(rank <= _CUT, 1.0 / (1.0 + rank).log2(), 0.0).sum())
    return total / max(1, len(candidates.scores))


@torch.inference_mode()
def ranking_ndcg(
    scorer: Scorer, held_out: HeldOut, max_len: int | None, device: torch.device
) -> float:
    """Returns the mean NDCG@10 of held-out targets among the whole catalogue; ties count against them."""
    total = 0.0
    for rows in torch.arange(len(held_out.users)).split(_USERS_AT_ONCE):
        batch = held_out.histories.select(rows).pad(max_len).to(device)
        scores = scorer.score(batch.items, batch.lengths)
        own = scores.gather(1, held_out.targets[rows].to(device)[:, None] - 1)
        rank = (scores >= own).sum(1).double()  # the target itself is one of them
        total += float(torch.where(rank <= _CUT, 1.0 / (1.0 + rank).log2(), 0.0).sum())
    return total / max(1, len(held_out.users))


def _negative_log_likelihood(candidates: Candidates, weights: Tensor) -> tuple[float, Floats]:
    """Returns the mean over users and its gradient with respect to the weights."""
    value, gradient = 0.0, torch.zeros(len(weights), dtype=torch.float64)
    for scores, log_count in _parts(candidates):
        logits = (scores @ weights.float()) + log_count
        log_z = logits.logsumexp(1, keepdim=True)
        value += float((log_z[:, 0] - logits[:, 0]).double().sum())
        expected = torch.einsum("bc,bcm->bm", (logits - log_z).exp(), scores)
        gradient += (expected - scores[:, 0]).double().sum(0)
    users = max(1, len(candidates.scores))
    assert math.isfinite(value)
    return value / users, (gradient / users).numpy()


def _parts(candidates: Candidates) -> list[tuple[Tensor, Tensor]]:
    pieces = zip(
        candidates.scores.split(_ROWS_AT_ONCE),
        candidates.log_count.split(_ROWS_AT_ONCE),
        strict=True,
    )
    return list(pieces)
