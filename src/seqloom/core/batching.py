"""Sizes batches by their padded size: one long row makes every row beside it as long."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def padded_batches(lengths: Sequence[int], *, rows: int, cells: int) -> list[list[int]]:
    """Groups row numbers into batches of similar length, longest first: memory runs out early or never.

    A batch has at most `rows` rows, and at most `cells` places once its rows are padded to its longest; a
    longer row is a batch of its own. Rows of equal length keep their order, so that equal rows give equal
    batches.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches = []
    first = 0
    while first < len(order):
        fit = max(1, min(rows, cells // max(1, lengths[order[first]])))
        batches.append(order[first : first + fit])
        first += fit
    return batches


def split_padded(rows: Tensor, lengths: Tensor, cells: int) -> tuple[Tensor, ...]:
    """Splits a batch, in order, into parts of at most `cells` places when padded to its longest row.

    Shapes: rows [B] row numbers, lengths [R] of all rows.
    """
    longest = max(1, int(lengths[rows].max())) if len(rows) else 1
    return rows.split(max(1, cells // longest)) if len(rows) else ()
