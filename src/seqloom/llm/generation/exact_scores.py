"""Exact scores: of every item, a part of the tree's leaves at a time, or of a few items of each prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.llm.generation.beam import beam_search
from seqloom.llm.generation.forced_tokens import flatten_runs
from seqloom.llm.generation.length_penalty import LengthPenalty
from seqloom.llm.generation.likelihood import Likelihood
from seqloom.llm.generation.prefix_tree import PrefixTree
from seqloom.llm.generation.text_model import ROOT, DecodingState


@torch.inference_mode()
def score_items(
    state: DecodingState,
    tree: PrefixTree,
    likelihood: Likelihood,
    *,
    items: Tensor | None = None,
    leaves_at_once: int = 64,
    penalty: LengthPenalty | None = None,
) -> Tensor:
    """The score of every item, or of some, for each prompt: as `beam_search` scores them.

    The time grows with the number of items. Column j belongs to item number j + 1, or to items[j].

    Shapes: items [C] item numbers -> [B, N] or [B, C].
    """
    numbers = torch.arange(1, tree.num_items + 1, device=tree.item.device)
    numbers = numbers if items is None else items
    leaves, places = tree.leaf[numbers].sort()
    scores = torch.empty(len(state.first), len(leaves), device=state.first.device)
    for wanted, columns in zip(
        leaves.split(leaves_at_once), places.split(leaves_at_once), strict=True
    ):
        found, values = _walk(state, tree, likelihood, wanted)
        scores[:, columns[torch.searchsorted(wanted, found)]] = values
        state.rewind()
    return scores if penalty is None else penalty.final(scores, numbers)


def score_candidates(
    state: DecodingState,
    tree: PrefixTree,
    likelihood: Likelihood,
    candidates: Tensor,
    penalty: LengthPenalty | None = None,
) -> Tensor:
    """The score of each prompt's own candidates, minus infinity where there is none.

    The time grows with the number of candidates. What other items an ID competes with at a branch does not
    depend on them: the scores are those of `exact_scores`.

    Shapes: candidates [B, C] item numbers, 0 where padded -> [B, C].
    """
    # An open beam leads to a candidate that no other one leads to, so none is ever left out.
    beams = candidates.shape[1]
    found = beam_search(state, tree, likelihood, num_beams=beams, only=candidates, penalty=penalty)
    items, order = found.items.sort(1)
    places = torch.searchsorted(items, candidates.contiguous()).clamp(max=items.shape[1] - 1)
    scores = found.scores.gather(1, order).gather(1, places)
    return scores.masked_fill(candidates == 0, float("-inf"))


def _walk(
    state: DecodingState, tree: PrefixTree, likelihood: Likelihood, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Score leaves, run by run. Shapes: wanted [M], rising -> the same in another order, [B, M]."""
    device = state.first.device
    nodes = torch.zeros(1, dtype=torch.int64, device=device)  # the same for all prompts
    slots = nodes + ROOT
    scores, states = torch.zeros(len(state.first), 1, device=device), state.first[:, None]
    done: list[tuple[Tensor, Tensor]] = []
    laid = 0
    while True:
        nodes, scores, parents = _children(tree, likelihood, nodes, scores, states, wanted)
        ends = tree.end[nodes]
        closed = tree.num_children[ends] == 0
        decided = tree.run[nodes] - 1 if likelihood.forced_cost else torch.zeros_like(nodes)
        fed = torch.where(closed, decided, tree.run[nodes])
        if bool(fed.any()):
            step = flatten_runs(tree, nodes[None], fed[None])
            before = slots[parents][step.runs]
            tokens = step.tokens.expand(len(scores), -1)
            states = state.step(tokens, before, step.runs)  # [B, M, D]
            scores = _with_forced(tree, likelihood, step.nodes[0], step.runs[0], states, scores)
            slots, states = step.last[0] + laid, states[:, step.last[0]]
            laid += tokens.shape[1]
        done.append((tree.first_leaf[ends[closed]], scores[:, closed]))
        if bool(closed.all()):
            return torch.cat([leaf for leaf, _ in done]), torch.cat([v for _, v in done], 1)
        nodes, scores = ends[~closed], scores[:, ~closed]
        slots, states = slots[~closed], states[:, ~closed]


def _children(
    tree: PrefixTree,
    likelihood: Likelihood,
    nodes: Tensor,
    scores: Tensor,
    states: Tensor,
    wanted: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The children that lead to leaves which are wanted, their scores, and whose children they are.

    Shapes: nodes [n], scores [B, n], states [B, n, D] -> [m], [B, m], [m].
    """
    batch, count = scores.shape
    width = int(tree.num_children[nodes].max())
    found = likelihood.children(states.flatten(0, 1), nodes.repeat(batch), width)
    gained = found.view(batch, count, width)
    offset = torch.arange(width, device=nodes.device)
    children = tree.first_child[nodes][:, None] + offset  # [n, C]
    real = offset < tree.num_children[nodes][:, None]
    children = torch.where(real, children, 0)
    before, after = tree.first_leaf[children], tree.end_leaf[children]
    inside = real & (torch.searchsorted(wanted, before) < torch.searchsorted(wanted, after))
    parents, places = torch.nonzero(inside, as_tuple=True)
    return children[parents, places], scores[:, parents] + gained[:, parents, places], parents


def _with_forced(
    tree: PrefixTree,
    likelihood: Likelihood,
    nodes: Tensor,
    runs: Tensor,
    states: Tensor,
    scores: Tensor,
) -> Tensor:
    """Scores with the tokens that leave no choice. Shapes: nodes, runs [M], states [B, M, D]."""
    if not likelihood.forced_cost:
        return scores
    at = torch.nonzero(tree.num_children[nodes] == 1).flatten()
    batch = len(scores)
    gained = likelihood.forced(states[:, at].flatten(0, 1), nodes[at].repeat(batch))
    return scores.index_add(1, runs[at], gained.view(batch, -1))
