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

from seqloom.llm.generation.lexicon import WordAutomaton
from seqloom.llm.generation.likelihood import log_probabilities
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import END, ROOT, DecodingState

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
    texts = torch.full((batch, groups, lengths.most + 1), PAD, device=device)
    written = _Written.nothing(automaton, batch, groups, outputs, device)
    log_probs = log_probabilities(state.first[:, None], state.head).expand(-1, groups, -1)
    runs = torch.arange(groups, device=device)[None]
    parents = torch.full_like(runs, ROOT)
    for length in range(lengths.most + 1):
        allowed = written.allowed(wanted, length, lengths)
        chosen = _choose(log_probs, allowed, penalty, written.done)
        texts[:, :, length] = torch.where(written.done, PAD, chosen)
        written.take(chosen)
        if bool(written.done.all()) or length == lengths.most:
            break
        fed = torch.where(written.done, END, chosen)
        log_probs = log_probabilities(state.step(fed, parents, runs), state.head)
        parents = runs + length * groups
    return texts


def allowed_tokens(
    automaton: WordAutomaton, texts: Tensor, lengths: Lengths, wanted: Tensor | None = None
) -> Tensor:
    """The tokens that `generate_words` chooses among at each place of a text that is given.

    Places after the end mark allow nothing. Where a text could not have been generated, what stands at a
    place is not among the tokens allowed there.

    Args:
        wanted: as for `generate_words`.

    Shapes: texts [B, T] output numbers: words, the end mark, then PAD -> [B, T, V'] bool.
    """
    outputs = len(automaton.start)
    written = _Written.nothing(automaton, len(texts), 1, outputs, texts.device)
    found = torch.zeros(*texts.shape, outputs, dtype=torch.bool, device=texts.device)
    for place, tokens in enumerate(texts.clamp(min=END).unbind(1)):
        allowed = written.allowed(wanted, place, lengths) & ~written.done[..., None]
        found[:, place] = allowed[:, 0]
        written.take(tokens[:, None])
    return found


@dataclass
class _Written:
    """What was written so far, as far as it decides what may follow."""

    automaton: WordAutomaton
    nodes: Tensor
    """[B, G] int64, the automaton's states."""
    used: Tensor
    """[B, G, V'] bool, the tokens that words began with."""
    done: Tensor
    """[B, G] bool, whether the end mark was written."""

    @classmethod
    def nothing(
        cls, automaton: WordAutomaton, batch: int, groups: int, outputs: int, device: torch.device
    ) -> _Written:
        return cls(
            automaton,
            torch.zeros(batch, groups, dtype=torch.int64, device=device),
            torch.zeros(batch, groups, outputs, dtype=torch.bool, device=device),
            torch.zeros(batch, groups, dtype=torch.bool, device=device),
        )

    def allowed(self, wanted: Tensor | None, length: int, lengths: Lengths) -> Tensor:
        """The tokens each group may take, the end mark among them. Shapes: -> [B, G, V'] bool."""
        room = lengths.most - length
        free = self.automaton.allowed(self.nodes.flatten(), room).view_as(self.used) & ~self.used
        if wanted is not None:
            narrowed = free & wanted[:, None]
            free = torch.where(narrowed.any(2, keepdim=True), narrowed, free)
        at_end = self.automaton.word_end[self.nodes]
        stuck = ~free.any(2)
        free[:, :, END] = at_end & (stuck | (length >= lengths.least))
        return free

    def take(self, tokens: Tensor) -> None:
        """Write one more token in each group that has not ended. Shapes: [B, G]."""
        self.done = self.done | (tokens == END)
        fed = torch.where(self.done, END, tokens)
        begins = (self.automaton.start[fed] > 0) & ~self.done
        place = fed[:, :, None]
        self.used.scatter_(2, place, self.used.gather(2, place) | begins[:, :, None])
        after = self.automaton.advance(self.nodes.flatten(), fed.flatten()).view_as(self.nodes)
        self.nodes = torch.where(self.done, self.nodes, after)


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
