"""A language model that continues prompts with tokens of a fixed set.

The *output tokens* are the only tokens that a continuation may hold: those of the words that IDs are made
of, and the end mark. Probabilities are over them alone, so it changes nothing whether the model's
vocabulary holds other tokens beside them or was pruned to what is used. Continuations are written in
*output numbers*: 0..V'-1, the places in the list of output tokens.
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
"""In place of a slot: right after the prompt."""


class DecodingState(Protocol):
    """Prompts that are encoded, and the tokens that were laid after them so far.

    The tokens after a prompt form a tree: each sees the prompt and its own ancestors. So the prompt is
    computed and held once, however many beams stand on it, and nothing is copied when beams are
    reordered. A token's *slot* is its place among all tokens that were laid after its prompt.
    """

    first: Tensor
    """[B, D] the state after the prompt: it tells the first token."""
    head: Tensor
    """[V', D]: its product with a state are the scores of the next token."""

    def step(self, tokens: Tensor, parents: Tensor, runs: Tensor) -> Tensor:
        """Lay M tokens after each prompt: the state at each of them.

        Tokens of one step with the same number in `runs` follow one another. `parents` are the slots
        after which their runs begin, ROOT for the prompt itself. One row of parents and runs may
        stand for all prompts.

        Shapes: tokens [B, M] output numbers, parents and runs [B, M] or [1, M] -> [B, M, D].
        """

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the prompts alone. Shapes: [B'] places of prompts."""

    def rewind(self) -> None:
        """Forget every token but keep the prompts."""


class TextModel(nn.Module, ABC):
    """p(continuation | prompt) by an encoder-decoder or by a decoder-only language model."""

    output_tokens: Tensor

    def __init__(self, network: Any, output_tokens: Tensor) -> None:
        """`network` is a transformers model; `output_tokens` [V'] are tokens of it, the end mark first."""
        super().__init__()
        use_onednn(network)
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

    def shard(self, device: torch.device) -> None:
        """Spread the layers, which go on being trained, on a GPU under autocast; see `shard_trained_layers`.

        Raises:
            ConfigError: the architecture does not name its layers.
        """
        half = torch.bfloat16 if device.type == "cuda" else None
        shard_trained_layers(self.network, device, half)

    def whole(self) -> Self:
        """This model as it is now where no weight is spread, else a copy with all weights.

        All processes must ask for it together; then each can run its copy as it likes.
        """
        state = self.state_dict()
        if not any(map(is_sharded, state.values())):
            return self
        device = self.output_tokens.device
        gpus = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(gpus), device:  # what it draws as first weights is replaced
            network = type(self.network)(copy.deepcopy(self.network.config))
        found = type(self)(network, self.output_tokens).to(device)
        places = found.state_dict()
        with torch.no_grad():
            for name, value in state.items():
                places[name].copy_(gather_tensor(value))
        return found.requires_grad_(False).eval()

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


def shift_targets(targets: Tensor) -> Tensor:
    """What is fed to predict `targets`, without the first place: all but the last, PAD as END.

    Shapes: [B, T] -> [B, T - 1].
    """
    return targets[:, :-1].clamp(min=0)


class Ancestors:
    """Which slots each token may see, as the tree of tokens grows. All tensors stay on one device."""

    def __init__(self, start: int, device: torch.device) -> None:
        """`start` slots are laid before the first token and seen by all: 1 for a start token, else 0."""
        self.mask = torch.ones(1, 1, start, dtype=torch.bool, device=device)
        """[B, 1 + laid, S] bool: the slots that the prompt's end (row 0) and each token see."""
        self.depths = torch.zeros(1, start, dtype=torch.int64, device=device)
        """[B, S] int64: how many ancestors each slot has."""

    @property
    def laid(self) -> int:
        """How many tokens there are."""
        return self.mask.shape[1] - 1

    def grow(self, parents: Tensor, runs: Tensor) -> tuple[Tensor, Tensor]:
        """Add a slot for each new token; give what it sees and its depth.

        Shapes: [B, M], [B, M] -> [B, M, S], [B, M].
        """
        old = self.mask.shape[2]
        count = parents.shape[1]
        before = _rows(self.mask, len(parents))
        index = (parents + 1)[:, :, None].expand(-1, -1, old)
        same = (runs[:, :, None] == runs[:, None, :]).tril()  # [B, M, M]
        seen = torch.cat([before.gather(1, index), same], 2)
        depth = seen.sum(2) - 1
        self.mask = torch.cat([nn.functional.pad(before, (0, count)), seen], 1)
        self.depths = torch.cat([_rows(self.depths, len(parents)), depth], 1)
        return seen, depth

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the prompts."""
        if len(self.mask) > 1:
            self.mask, self.depths = self.mask[rows], self.depths[rows]


def _rows(value: Tensor, count: int) -> Tensor:
    return value if len(value) == count else value.expand(count, *value.shape[1:])


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
