"""Runs of a prefix tree as rows of tokens that a language model reads in one step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.llm.generation.prefix_tree import PrefixTree


@dataclass(frozen=True)
class _FlatRuns:
    """The runs of a row one after another, padded on the right."""

    nodes: Tensor
    """[B, M] int64; 0 where padded."""
    tokens: Tensor
    """[B, M] int64 output numbers; 0 where padded."""
    runs: Tensor
    """[B, M] int64, which run each token is of; -1 where padded."""
    last: Tensor
    """[B, K] int64, the place of each run's last token; 0 for a run without any."""


def flatten_runs(tree: PrefixTree, nodes: Tensor, counts: Tensor) -> _FlatRuns:
    """The first `counts` nodes of the run from each node. At least one is above 0.

    Shapes: nodes [B, K], counts [B, K] -> M the most tokens of a row.
    """
    longest = int(counts.max())
    along = tree.along(nodes, longest)  # [B, K, T]
    real = (torch.arange(longest, device=nodes.device) < counts[..., None]).flatten(1)
    width = int(counts.sum(1).max())
    order = (~real).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    mask = real.gather(1, order)
    laid = along.flatten(1).gather(1, order).masked_fill(~mask, 0)
    return _FlatRuns(
        nodes=laid,
        tokens=tree.token[laid].masked_fill(~mask, 0),
        runs=(order // longest).masked_fill(~mask, -1),
        last=(counts.cumsum(1) - 1).clamp(min=0),
    )
