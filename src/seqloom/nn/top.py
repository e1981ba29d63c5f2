"""The highest of many scores."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 64
_WORTH_IT = 1 << 15
"""Columns from which on two passes are quicker than one."""


def top_scores(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest scores of each row and their columns, the highest first.

    The k highest lie in the k chunks of columns with the highest maxima, and finding maxima is far
    quicker than sorting: of a million columns, most are looked at once. Of equal scores at the end
    of the list any may be taken.

    Shapes: scores [B, N] -> [B, k], [B, k] int64.
    """
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
