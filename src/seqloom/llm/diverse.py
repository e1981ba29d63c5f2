"""Greedy and diverse generation of short texts of whole words, for a batch of prompts at once.

Diverse group beam search with one beam a group: at each step the groups choose one after the other, and a
token that earlier groups of the same prompt have just chosen costs `penalty` each time.

Source: Vijayakumar et al., Diverse Beam Search (arXiv 1610.02424), Hamming diversity; IDGenRec (arXiv
    2403.19021), section 3.1, which uses 10 groups of 1 beam.
Differs: nothing but whole words of a lexicon comes out, and no word twice in one text (two words that
    begin with the same token count as one). The groups of a prompt are computed together, on one
    encoding of the prompt. transformers 5 has no group beam search.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.llm.likelihood import log_probs_of
from seqloom.llm.prefix_tree import PAD
from seqloom.llm.text_model import END, ROOT, DecodingState
from seqloom.llm.words import WordAutomaton

_NONE = float("-inf")


@dataclass(frozen=True)
class Lengths:
    """How many tokens a text may have, its end mark apart."""

    least: int
    most: int


@torch.inference_mode()
def generate_words(
    state: DecodingState,
    automaton: WordAutomaton,
    lengths: Lengths,
    *,
    groups: int = 1,
    penalty: float = 0.0,
    wanted: Tensor | None = None,
) -> Tensor:
    """`groups` texts for each prompt, group 0 the greedy one.

    A text that can go on with no word ends before `lengths.least`.

    Args:
        wanted: [B, V'] bool, the only tokens that may be used where they allow any word at all.

    Shapes: -> [B, groups, most + 1] output numbers: words, the end mark, then PAD.
    """
    batch, outputs = len(state.first), len(state.head)
    device = state.first.device
    nodes = torch.zeros(batch, groups, dtype=torch.int64, device=device)
    texts = torch.full((batch, groups, lengths.most + 1), PAD, device=device)
    used = torch.zeros(batch, groups, outputs, dtype=torch.bool, device=device)
    log_probs = log_probs_of(state.first[:, None], state.head).expand(-1, groups, -1)
    runs = torch.arange(groups, device=device)[None]
    parents = torch.full_like(runs, ROOT)
    done = torch.zeros(batch, groups, dtype=torch.bool, device=device)
    for length in range(lengths.most + 1):
        allowed = _allowed(automaton, nodes, used, wanted, length, lengths)
        chosen = _choose(log_probs, allowed, penalty, done)
        texts[:, :, length] = torch.where(done, PAD, chosen)
        done = done | (chosen == END)
        if bool(done.all()) or length == lengths.most:
            break
        fed = torch.where(done, END, chosen)
        begins = (automaton.start[fed] > 0) & ~done
        used.scatter_(2, fed[:, :, None], used.gather(2, fed[:, :, None]) | begins[:, :, None])
        after = automaton.advance(nodes.flatten(), fed.flatten()).view_as(nodes)
        nodes = torch.where(done, nodes, after)
        log_probs = log_probs_of(state.step(fed, parents, runs), state.head)
        parents = runs + length * groups
    return texts


def _allowed(
    automaton: WordAutomaton,
    nodes: Tensor,
    used: Tensor,
    wanted: Tensor | None,
    length: int,
    lengths: Lengths,
) -> Tensor:
    """The tokens each group may take, the end mark among them. Shapes: -> [B, G, V'] bool."""
    free = automaton.allowed(nodes.flatten(), lengths.most - length).view_as(used) & ~used
    if wanted is not None:
        narrowed = free & wanted[:, None]
        free = torch.where(narrowed.any(2, keepdim=True), narrowed, free)
    at_end = automaton.word_end[nodes]
    stuck = ~free.any(2)
    free[:, :, END] = at_end & (stuck | (length >= lengths.least))
    return free


def _choose(log_probs: Tensor, allowed: Tensor, penalty: float, done: Tensor) -> Tensor:
    """One token for each group, the groups in turn. Shapes: [B, G, V'] -> [B, G]."""
    batch, groups, outputs = log_probs.shape
    times = torch.zeros(batch, outputs, device=log_probs.device)
    chosen = []
    for group in range(groups):
        scores = log_probs[:, group] - penalty * times
        token = scores.masked_fill(~allowed[:, group], _NONE).argmax(1)
        token = torch.where(done[:, group], END, token)
        counts = (~done[:, group]).float()[:, None]
        times.scatter_add_(1, token[:, None], counts)
        chosen.append(token)
    return torch.stack(chosen, 1)
