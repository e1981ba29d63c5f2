"""A language model that continues prompts with tokens of a fixed set.

The *output tokens* are the only tokens that a continuation may hold: those of the words that IDs are made
of, and the end mark. Probabilities are over them alone, so a whole and a pruned vocabulary give the same
results. Continuations are sequences of *output numbers* 0..V'-1, indices into the list of output tokens.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from seqloom.distributed.dtensors import gather_tensor, is_sharded
from seqloom.llm.sharding import shard_trained_layers
from seqloom.nn.linear import use_onednn

END = 0
"""The output number of the end mark."""

ROOT = -1
"""Parent of a token that follows the prompt directly; takes the place of a slot."""


class DecodingState(Protocol):
    """Encoded prompts with the tokens appended to them so far.

    The tokens after a prompt form a tree: each attends to the prompt and to its own ancestors. So a prompt
    is computed and held once for any number of beams, and reordering beams copies nothing. A token's *slot*
    is its index among all tokens appended to its prompt.
    """

    first: Tensor
    """[B, D] the state after the prompt, which predicts the first token."""
    head: Tensor
    """[V', D]; its product with a state gives the scores of the next token."""

    def step(self, tokens: Tensor, parents: Tensor, runs: Tensor) -> Tensor:
        """Appends M tokens to each prompt and returns the state at each of them.

        Tokens of one step with the same number in `runs` follow one another. `parents` are the slots
        after which the runs begin, ROOT for the prompt itself. Parents and runs may have one row for
        all prompts.

        Shapes: tokens [B, M] output numbers, parents and runs [B, M] or [1, M] -> [B, M, D].
        """

    def keep(self, rows: Tensor) -> None:
        """Keeps some of the prompts and drops the others. Shapes: rows [B'] indices of prompts."""

    def rewind(self) -> None:
        """Drops all tokens and keeps the prompts."""


class TextModel(nn.Module, ABC):
    """p(continuation | prompt) by an encoder-decoder or by a decoder-only language model."""

    output_tokens: Tensor

    def __init__(self, network: Any, output_tokens: Tensor) -> None:
        """Wraps a transformers model; `output_tokens` [V'] are tokens of its vocabulary, END first."""
        super().__init__()
        use_onednn(network)
        self.network = network
        self.register_buffer("output_tokens", output_tokens.long(), persistent=False)
        # Tied weights are stored once in a state dict, under the first of their names.
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
        """Embeds tokens of the model's vocabulary. Shapes: [...] -> [..., D]."""
        return self.network.get_input_embeddings()(tokens)

    def embed_outputs(self, numbers: Tensor) -> Tensor:
        """Embeds output numbers. Shapes: [...] -> [..., D]."""
        return self.embed(self.output_tokens[numbers])

    def output_rows(self, weight: Tensor) -> Tensor:
        """Returns the rows of an embedding or head matrix that belong to the output tokens.

        Returns a view where they are the first rows, as in a pruned vocabulary. Shapes: [V, D] -> [V', D].
        """
        return weight[: self.num_outputs] if self._leading else weight[self.output_tokens]

    def output_embeddings(self) -> Tensor:
        """Returns the input embeddings of the output tokens. Shapes: -> [V', D]."""
        return self.output_rows(self.network.get_input_embeddings().weight)

    def forward(self, prompt: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        return self.logits(prompt, mask, targets)

    def shard(self, device: torch.device) -> None:
        """Shards the layers for training, on a GPU in bfloat16; see `shard_trained_layers`.

        Raises:
            ConfigError: the architecture does not name its layers.
        """
        half = torch.bfloat16 if device.type == "cuda" else None
        shard_trained_layers(self.network, device, half)

    def whole(self) -> Self:
        """Returns a model with whole weights: itself where none is sharded, else a copy.

        All processes must call it together; then each can run its copy independently.
        """
        state = self.state_dict()
        if not any(map(is_sharded, state.values())):
            return self
        device = self.output_tokens.device
        gpus = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(gpus), device:  # its random weights are overwritten below
            network = type(self.network)(copy.deepcopy(self.network.config))
        copied = type(self)(network, self.output_tokens).to(device)
        weights = copied.state_dict()
        with torch.no_grad():
            for name, value in state.items():
                weights[name].copy_(gather_tensor(value))
        return copied.requires_grad_(False).eval()

    @abstractmethod
    def logits(self, prompt: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """Scores the token at each place of `targets`, given the tokens before it (teacher forcing).

        The result is undefined where `targets` is PAD.

        Shapes: prompt [B, P, D] embeddings, mask [B, P] bool (true on the left, then false),
        targets [B, T] output numbers, PAD after the end -> [B, T, V'].
        """

    @abstractmethod
    def start(self, tokens: Tensor, mask: Tensor) -> DecodingState:
        """Encodes prompts for decoding. Shapes: tokens, mask [B, P]."""


def shift_targets(targets: Tensor) -> Tensor:
    """Shifts targets into decoder inputs, without the start position: drops the last, replaces PAD by END.

    Shapes: [B, T] -> [B, T - 1].
    """
    return targets[:, :-1].clamp(min=0)


class Ancestors:
    """Attention mask over slots as the tree of tokens grows. All tensors stay on one device."""

    def __init__(self, start: int, device: torch.device) -> None:
        """Begins with `start` slots that every token sees: 1 for a start token, else 0."""
        self.mask = torch.ones(1, 1, start, dtype=torch.bool, device=device)
        """[B, 1 + count, S] bool: the slots that the prompt's end (row 0) and each token see."""
        self.depths = torch.zeros(1, start, dtype=torch.int64, device=device)
        """[B, S] int64: number of ancestors of each slot."""

    @property
    def count(self) -> int:
        """Number of tokens appended."""
        return self.mask.shape[1] - 1

    def grow(self, parents: Tensor, runs: Tensor) -> tuple[Tensor, Tensor]:
        """Adds a slot for each new token; returns the slots that it sees and its depth.

        Shapes: [B, M], [B, M] -> [B, M, S], [B, M].
        """
        old = self.mask.shape[2]
        count = parents.shape[1]
        before = _rows(self.mask, len(parents))
        # A token sees what its parent sees, and the tokens of its own run up to itself.
        index = (parents + 1)[:, :, None].expand(-1, -1, old)  # [B, M, S_old]
        same = (runs[:, :, None] == runs[:, None, :]).tril()  # [B, M, M]
        seen = torch.cat([before.gather(1, index), same], 2)
        depth = seen.sum(2) - 1
        self.mask = torch.cat([nn.functional.pad(before, (0, count)), seen], 1)
        self.depths = torch.cat([_rows(self.depths, len(parents)), depth], 1)
        return seen, depth

    def keep(self, rows: Tensor) -> None:
        """Keeps some of the prompts. Shapes: rows [B']."""
        if len(self.mask) > 1:
            self.mask, self.depths = self.mask[rows], self.depths[rows]


def _rows(value: Tensor, count: int) -> Tensor:
    """Expands a single row to `count` rows."""
    return value if len(value) == count else value.expand(count, *value.shape[1:])


def _ties(module: nn.Module) -> dict[str, str]:
    """Returns the second and later names of tied parameters, each with the first name."""
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
