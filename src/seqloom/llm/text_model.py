"""A language model that continues prompts with tokens of a fixed set.

The *output tokens* are the only tokens that a continuation may hold: those of the words that IDs are made
of, and the end mark. Probabilities are over them alone, so it changes nothing whether the model's
vocabulary holds other tokens beside them or was pruned to what is used. Continuations are written in
*output numbers*: 0..V'-1, the places in the list of output tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

END = 0
"""The output number of the end mark."""


class DecodingState(Protocol):
    """Prompts that are encoded, and the tokens that were laid after them so far.

    The tokens after a prompt form a tree: each new token has a parent among the tokens of the step
    before, and sees the prompt and its own ancestors. So the prompt is computed and held once, however
    many beams stand on it, and nothing is copied when beams are reordered.
    """

    first: Tensor
    """[B, V'] log-probabilities of the first token."""

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Lay one token after each of K beams: log-probabilities of the token after it.

        `parents` are places among the beams of the step before, and 0 at the first step.

        Shapes: tokens [B, K] output numbers, parents [B, K] -> [B, K, V'].
        """

    def rewind(self) -> None:
        """Forget every token but keep the prompts."""


class TextModel(nn.Module, ABC):
    """p(continuation | prompt) by an encoder-decoder or by a decoder-only language model."""

    output_tokens: Tensor

    def __init__(self, network: Any, output_tokens: Tensor) -> None:
        """`network` is a transformers model; `output_tokens` [V'] are tokens of it, the end mark first."""
        super().__init__()
        self.network = network
        self.register_buffer("output_tokens", output_tokens.long(), persistent=False)
        # Tied weights have one place in a state: the first of their names.
        self.register_state_dict_post_hook(_drop_ties)
        self.register_load_state_dict_pre_hook(_fill_ties)
        first = torch.arange(len(output_tokens))
        self._leading = bool(torch.equal(output_tokens.cpu().long(), first))

    @property
    def num_outputs(self) -> int:
        """V'."""
        return len(self.output_tokens)

    @property
    def width(self) -> int:
        """D, the width of a token's embedding."""
        return int(self.network.get_input_embeddings().weight.shape[1])

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings of model tokens. Shapes: [...] -> [..., D]."""
        return self.network.get_input_embeddings()(tokens)

    def embed_outputs(self, numbers: Tensor) -> Tensor:
        """Embeddings of output numbers. Shapes: [...] -> [..., D]."""
        return self.embed(self.output_tokens[numbers])

    def output_rows(self, weight: Tensor) -> Tensor:
        """The rows of an embedding or head matrix that belong to the output tokens.

        Without a copy where they are the first rows, as in a pruned vocabulary. Shapes: [V, D] -> [V', D].
        """
        return weight[: self.num_outputs] if self._leading else weight[self.output_tokens]

    def output_embeddings(self) -> Tensor:
        """What soft tokens are mixed from. Shapes: -> [V', D]."""
        return self.output_rows(self.network.get_input_embeddings().weight)

    def forward(self, prompt: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """The same as `logits`."""
        return self.logits(prompt, mask, targets)

    @abstractmethod
    def logits(self, prompt: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """Scores of the token at each place of `targets`, given the places before it.

        Where targets is PAD the result means nothing.

        Shapes: prompt [B, P, D] embeddings, mask [B, P] bool (true on the left, then false),
        targets [B, T] output numbers, PAD after the end -> [B, T, V'].
        """

    @abstractmethod
    def start(self, tokens: Tensor, mask: Tensor) -> DecodingState:
        """Encode prompts, once, for decoding. Shapes: tokens, mask [B, P]."""


def shifted(targets: Tensor) -> Tensor:
    """What is fed to predict `targets`, without the first place: all but the last, PAD as END.

    Shapes: [B, T] -> [B, T - 1].
    """
    return targets[:, :-1].clamp(min=0)


class Ancestors:
    """Which tokens each beam may see, as the tree of tokens grows. All tensors stay on one device."""

    def __init__(self) -> None:
        self.mask: Tensor | None = None
        """[B, K, S] bool, true where token slot s lies on beam k's path."""
        self.depths: list[int] = []
        """The step at which each slot was filled, rising."""

    def grow(self, parents: Tensor) -> Tensor:
        """Add one slot for each beam and give the mask of the new beams. Shapes: [B, K] -> [B, K, S]."""
        batch, beams = parents.shape
        own = torch.eye(beams, dtype=torch.bool, device=parents.device).expand(batch, -1, -1)
        if self.mask is None:
            self.mask = own
            self.depths = [0] * beams
        else:
            index = parents[:, :, None].expand(-1, -1, self.mask.shape[2])
            self.mask = torch.cat([self.mask.gather(1, index), own], 2)
            self.depths += [self.depths[-1] + 1] * beams
        return self.mask


def _ties(module: nn.Module) -> dict[str, str]:
    """Further names of a parameter, each with its first name."""
    first: dict[int, str] = {}
    named = module.named_parameters(remove_duplicate=False)
    return {n: first[id(p)] for n, p in named if first.setdefault(id(p), n) != n}


def _drop_ties(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in _ties(module):
        state.pop(prefix + name, None)


def _fill_ties(module: nn.Module, state: dict[str, Any], prefix: str, *_rest: Any) -> None:
    for name, first in _ties(module).items():
        if prefix + first in state:
            state.setdefault(prefix + name, state[prefix + first])
