"""Selects the highest of many scores."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 64
_WORTH_IT = 1 << 15
"""Columns from which two passes are faster than one."""
_KEYS_AT_ONCE = 4 << 20
_NO_KEY = torch.iinfo(torch.int64).max


def top_scores(scores: Tensor, k: int, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Returns the k highest scores of each row and their columns, the highest first.

    The k highest lie in the k chunks of columns with the highest maxima, and finding maxima is far
    faster than sorting: of a million columns, most are read a single time.

    Args:
        keys: a number for each column; of equal scores the column with the lower key goes first
            (`data.tie_keys`). Without keys, of equal scores any may be taken, in any order.

    Shapes: scores [B, N], keys [N] int64 -> [B, k], [B, k] int64.
    """
    if keys is None or not k:
        return _highest(scores, k)
    keys = keys.to(scores.device)
    # One more than k: it shows whether a tie is cut, without another look at all columns.
    values, at = _highest(scores, min(k + 1, scores.shape[1]))
    cut = values[:, k:] == values[:, k - 1 : k]
    values, at = values[:, :k], at[:, :k]
    at = _tied_at_the_end(scores, values, at, keys, cut.any(1))
    by_key = keys[at].argsort(dim=1, stable=True)
    values, at = values.gather(1, by_key), at.gather(1, by_key)
    by_value = values.argsort(dim=1, descending=True, stable=True)
    return values.gather(1, by_value), at.gather(1, by_value)


def _highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `top_scores`, without keys."""
    columns = scores.shape[1]
    if columns < max(_WORTH_IT, 4 * k * _CHUNK):
        values, at = scores.topk(k, dim=1)
        return values, at
    chunks = columns // _CHUNK
    whole = chunks * _CHUNK
    # Chunk j holds every chunks-th column from j on: maxima of long rows, side by side.
    best = scores[:, :whole].unflatten(1, (_CHUNK, chunks)).amax(1)  # [B, chunks]
    chosen = best.topk(k, dim=1).indices  # [B, k]
    steps = torch.arange(0, whole, chunks, device=scores.device)
    inside = (chosen[:, :, None] + steps).flatten(1)  # [B, k * chunk]
    rest = torch.arange(whole, columns, device=scores.device).expand(len(scores), -1)
    candidates = torch.cat([inside, rest], 1)
    values, at = scores.gather(1, candidates).topk(k, dim=1)
    return values, candidates.gather(1, at)


def _tied_at_the_end(
    scores: Tensor, values: Tensor, at: Tensor, keys: Tensor, cut: Tensor
) -> Tensor:
    """Chooses by key which columns that tie at the lowest value are taken, where more tie than fit (`cut`).

    Shapes: scores [B, N], values and at [B, k], keys [N], cut [B] -> [B, k].
    """
    k = at.shape[1]
    last = values[:, -1:]
    rows = torch.nonzero(cut & (last[:, 0] > -torch.inf)).flatten()
    if not len(rows):
        return at
    at = at.clone()
    place = torch.arange(k, device=at.device)
    for some in rows.split(max(1, _KEYS_AT_ONCE // scores.shape[1])):
        tied = torch.where(scores[some] == last[some], keys, _NO_KEY)
        lowest = tied.topk(k, dim=1, largest=False, sorted=True).indices  # [R, k]
        free = place - (values[some] > last[some]).sum(1, keepdim=True)
        at[some] = torch.where(free < 0, at[some], lowest.gather(1, free.clamp(min=0)))
    return at
