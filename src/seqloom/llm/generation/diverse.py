"""Greedy and diverse generation of short texts of whole words, for a batch of prompts at once.

Diverse group beam search with one beam a group: at each step the groups choose one after the other, and
each earlier group of the same prompt that chose a token at this step lowers its score by `penalty`.

Source: Vijayakumar et al., Diverse Beam Search (arXiv 1610.02424), Hamming diversity; IDGenRec (arXiv
    2403.19021), section 3.1, which uses 10 groups of 1 beam.
Differs: texts consist of whole words of a lexicon, without repetition (two words that begin with the same
    token count as one). The groups of a prompt share one encoding of the prompt. transformers 5 has no
    group beam search.
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
    """Smallest and largest number of tokens of a text, without its end mark."""

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
    preferred_tokens: Tensor | None = None,
) -> Tensor:
    """Generates `groups` texts for each prompt; group 0 is the greedy one.

    A text that no further word fits may end before `lengths.least`.

    Args:
        preferred_tokens: [B, V'] bool, tokens to restrict the choice to, wherever they allow any word.

    Shapes: -> [B, groups, most + 1] output numbers: words, the end mark, then PAD.
    """
    batch, outputs = len(state.first), len(state.head)
    device = state.first.device
    texts = torch.full((batch, groups, lengths.most + 1), PAD, device=device)
    written = _Written.start(automaton, batch, groups, outputs, device)
    # All groups start from the same state: [B, 1, V'] -> [B, G, V'].
    log_probs = log_probabilities(state.first[:, None], state.head).expand(-1, groups, -1)
    runs = torch.arange(groups, device=device)[None]  # [1, G], one run a group
    parents = torch.full_like(runs, ROOT)
    for length in range(lengths.most + 1):
        allowed = written.allowed(preferred_tokens, length, lengths)
        chosen = _choose(log_probs, allowed, penalty, written.done)
        texts[:, :, length] = torch.where(written.done, PAD, chosen)
        written.take(chosen)
        if bool(written.done.all()) or length == lengths.most:
            break
        # Finished groups read END as a placeholder; their states are not used.
        inputs = torch.where(written.done, END, chosen)
        log_probs = log_probabilities(state.step(inputs, parents, runs), state.head)
        parents = runs + length * groups  # every step appends one slot a group
    return texts


def allowed_tokens(
    automaton: WordAutomaton,
    texts: Tensor,
    lengths: Lengths,
    preferred_tokens: Tensor | None = None,
) -> Tensor:
    """Returns the tokens that `generate_words` could choose at each place of given texts.

    Places after the end mark allow no token. Where a text could not have been generated, its own token is not
    allowed at some place.

    Args:
        preferred_tokens: as for `generate_words`.

    Shapes: texts [B, T] output numbers: words, the end mark, then PAD -> [B, T, V'] bool.
    """
    outputs = len(automaton.start)
    written = _Written.start(automaton, len(texts), 1, outputs, texts.device)
    every = torch.zeros(*texts.shape, outputs, dtype=torch.bool, device=texts.device)
    for place, tokens in enumerate(texts.clamp(min=END).unbind(1)):
        allowed = written.allowed(preferred_tokens, place, lengths) & ~written.done[..., None]
        every[:, place] = allowed[:, 0]
        written.take(tokens[:, None])
    return every


@dataclass
class _Written:
    """State of partly written texts that decides which tokens may follow."""

    automaton: WordAutomaton
    nodes: Tensor
    """[B, G] int64, states of the automaton."""
    used: Tensor
    """[B, G, V'] bool, first tokens of the words so far."""
    done: Tensor
    """[B, G] bool, whether the end mark was written."""

    @classmethod
    def start(
        cls, automaton: WordAutomaton, batch: int, groups: int, outputs: int, device: torch.device
    ) -> _Written:
        """Returns the state of empty texts."""
        return cls(
            automaton,
            torch.zeros(batch, groups, dtype=torch.int64, device=device),
            torch.zeros(batch, groups, outputs, dtype=torch.bool, device=device),
            torch.zeros(batch, groups, dtype=torch.bool, device=device),
        )

    def allowed(self, preferred_tokens: Tensor | None, length: int, lengths: Lengths) -> Tensor:
        """Returns the tokens that each group may take, END included. Shapes: -> [B, G, V'] bool."""
        # Words that can still end within the length limit and were not used before.
        room = lengths.most - length
        free = self.automaton.allowed(self.nodes.flatten(), room).view_as(self.used) & ~self.used
        if preferred_tokens is not None:
            preferred = free & preferred_tokens[:, None]
            free = torch.where(preferred.any(2, keepdim=True), preferred, free)
        # END is allowed after a whole word, once the text is long enough or nothing else fits.
        at_end = self.automaton.word_end[self.nodes]
        stuck = ~free.any(2)
        free[:, :, END] = at_end & (stuck | (length >= lengths.least))
        return free

    def take(self, tokens: Tensor) -> None:
        """Appends one token to each group that has not ended. Shapes: [B, G]."""
        self.done = self.done | (tokens == END)
        tokens = torch.where(self.done, END, tokens)
        begins = (self.automaton.start[tokens] > 0) & ~self.done
        place = tokens[:, :, None]
        self.used.scatter_(2, place, self.used.gather(2, place) | begins[:, :, None])
        after = self.automaton.advance(self.nodes.flatten(), tokens.flatten()).view_as(self.nodes)
        self.nodes = torch.where(self.done, self.nodes, after)


def _choose(log_probs: Tensor, allowed: Tensor, penalty: float, done: Tensor) -> Tensor:
    """Chooses one token for each group, group after group. Shapes: [B, G, V'] -> [B, G]."""
    batch, groups, outputs = log_probs.shape
    times = torch.zeros(
        batch, outputs, device=log_probs.device
    )  # choices of each token at this step
    chosen = []
    for group in range(groups):
        scores = log_probs[:, group] - penalty * times
        token = scores.masked_fill(~allowed[:, group], _NONE).argmax(1)
        token = torch.where(done[:, group], END, token)
        counts = (~done[:, group]).float()[:, None]  # finished groups do not penalise others
        times.scatter_add_(1, token[:, None], counts)
        chosen.append(token)
    return torch.stack(chosen, 1)
