"""Packs the forced tokens of a prefix tree into rows that a language model reads in one step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.llm.generation.prefix_tree import PrefixTree


@dataclass(frozen=True)
class _FlatRuns:
    """The runs of each row, concatenated and padded on the right."""

    nodes: Tensor
    """[B, M] int64; 0 where padded."""
    tokens: Tensor
    """[B, M] int64 output numbers; 0 where padded."""
    runs: Tensor
    """[B, M] int64, index of the run of each token; -1 where padded."""
    last: Tensor
    """[B, K] int64, place of each run's last token; 0 for an empty run."""


def flatten_runs(tree: PrefixTree, nodes: Tensor, counts: Tensor) -> _FlatRuns:
    """Concatenates the first `counts` nodes of the run from each node; one count at least is above 0.

    Shapes: nodes [B, K], counts [B, K] -> fields with M, the largest number of tokens in a row.
    """
    longest = int(counts.max())
    along = tree.follow_runs(nodes, longest)  # [B, K, T]
    real = (torch.arange(longest, device=nodes.device) < counts[..., None]).flatten(1)  # [B, K * T]
    width = int(counts.sum(1).max())  # M
    # A stable sort moves padding to the right and keeps the order of runs and tokens.
    order = (~real).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    mask = real.gather(1, order)
    flat = along.flatten(1).gather(1, order).masked_fill(~mask, 0)  # [B, M]
    return _FlatRuns(
        nodes=flat,
        tokens=tree.token[flat].masked_fill(~mask, 0),
        runs=(order // longest).masked_fill(~mask, -1),
        last=(counts.cumsum(1) - 1).clamp(min=0),
    )
