"""Exact scores: of all items, some leaves of the tree at a time, or of a few candidates of each prompt."""

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
    """Scores all items, or some, for each prompt; the scores equal those of `beam_search`.

    The time grows with the number of items. Column j belongs to item number j + 1, or to items[j].

    Shapes: items [C] item numbers -> [B, N] or [B, C].
    """
    numbers = torch.arange(1, tree.num_items + 1, device=tree.item.device)
    numbers = numbers if items is None else items
    leaves, places = tree.leaf[numbers].sort()
    scores = torch.empty(len(state.first), len(leaves), device=state.first.device)
    for some, columns in zip(
        leaves.split(leaves_at_once), places.split(leaves_at_once), strict=True
    ):
        finished, values = _score_leaves(state, tree, likelihood, some)
        scores[:, columns[torch.searchsorted(some, finished)]] = values
        state.rewind()
    return scores if penalty is None else penalty.final(scores, numbers)


def score_candidates(
    state: DecodingState,
    tree: PrefixTree,
    likelihood: Likelihood,
    candidates: Tensor,
    penalty: LengthPenalty | None = None,
) -> Tensor:
    """Scores each prompt's own candidates; padding scores minus infinity.

    The time grows with the number of candidates. Probabilities at a branch do not depend on which items are
    candidates, so the scores equal those of `score_items`.

    Shapes: candidates [B, C] item numbers, 0 where padded -> [B, C].
    """
    # Every unfinished beam leads to a candidate of its own, so C beams never drop one.
    beams = candidates.shape[1]
    best = beam_search(state, tree, likelihood, num_beams=beams, only=candidates, penalty=penalty)
    # Put the scores, which come best first, into the order of the candidates.
    items, order = best.items.sort(1)
    places = torch.searchsorted(items, candidates.contiguous()).clamp(max=items.shape[1] - 1)
    scores = best.scores.gather(1, order).gather(1, places)
    return scores.masked_fill(candidates == 0, float("-inf"))


def _score_leaves(
    state: DecodingState, tree: PrefixTree, likelihood: Likelihood, leaves: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores leaves, a run at a time, for all prompts at once.

    Shapes: leaves [M], ascending -> the same leaves in the order they finish [M], scores [B, M].
    """
    device = state.first.device
    nodes = torch.zeros(1, dtype=torch.int64, device=device)  # the same for all prompts
    slots = nodes + ROOT
    scores, states = torch.zeros(len(state.first), 1, device=device), state.first[:, None]
    done: list[tuple[Tensor, Tensor]] = []
    num_slots = 0
    while True:
        nodes, scores, parents = _expand(tree, likelihood, nodes, scores, states, leaves)
        ends = tree.end[nodes]
        finished = tree.num_children[ends] == 0
        # As in the beam search: a run that ends in an item needs no state at its end.
        decided = tree.run[nodes] - 1 if likelihood.forced_cost else torch.zeros_like(nodes)
        to_read = torch.where(finished, decided, tree.run[nodes])
        if bool(to_read.any()):
            step = flatten_runs(tree, nodes[None], to_read[None])
            before = slots[parents][step.runs]
            tokens = step.tokens.expand(len(scores), -1)
            states = state.step(tokens, before, step.runs)  # [B, M, D]
            scores = _add_forced(tree, likelihood, step.nodes[0], step.runs[0], states, scores)
            slots, states = step.last[0] + num_slots, states[:, step.last[0]]
            num_slots += tokens.shape[1]
        done.append((tree.first_leaf[ends[finished]], scores[:, finished]))
        if bool(finished.all()):
            return torch.cat([leaf for leaf, _ in done]), torch.cat([v for _, v in done], 1)
        nodes, scores = ends[~finished], scores[:, ~finished]
        slots, states = slots[~finished], states[:, ~finished]


def _expand(
    tree: PrefixTree,
    likelihood: Likelihood,
    nodes: Tensor,
    scores: Tensor,
    states: Tensor,
    leaves: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the children that lead to one of `leaves`, their scores and their parents' indices.

    Shapes: nodes [n], scores [B, n], states [B, n, D] -> [m], [B, m], [m].
    """
    batch, count = scores.shape
    width = int(tree.num_children[nodes].max())
    gained = likelihood.children(states.flatten(0, 1), nodes.repeat(batch), width)
    gained = gained.view(batch, count, width)  # [B * n, C] -> [B, n, C]
    offset = torch.arange(width, device=nodes.device)
    children = tree.first_child[nodes][:, None] + offset  # [n, C]
    real = offset < tree.num_children[nodes][:, None]
    children = torch.where(real, children, 0)
    # A child stays if its range of leaves holds at least one of the leaves to score.
    first, end = tree.first_leaf[children], tree.end_leaf[children]
    inside = real & (torch.searchsorted(leaves, first) < torch.searchsorted(leaves, end))
    parents, places = torch.nonzero(inside, as_tuple=True)  # [m] each
    return children[parents, places], scores[:, parents] + gained[:, parents, places], parents


def _add_forced(
    tree: PrefixTree,
    likelihood: Likelihood,
    nodes: Tensor,
    runs: Tensor,
    states: Tensor,
    scores: Tensor,
) -> Tensor:
    """Adds the log-probabilities of forced tokens to scores. Shapes: nodes, runs [M], states [B, M, D]."""
    if not likelihood.forced_cost:
        return scores
    at = torch.nonzero(tree.num_children[nodes] == 1).flatten()
    batch = len(scores)
    gained = likelihood.forced(states[:, at].flatten(0, 1), nodes[at].repeat(batch))
    return scores.index_add(1, runs[at], gained.view(batch, -1))
