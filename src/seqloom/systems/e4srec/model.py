"""The network of E4SRec: ID embeddings, a reader of histories, and a head that scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.shared_base import load_shared_base
from seqloom.nn.attention import last_position
from seqloom.systems.base import Sizes, System
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.reader import HistoryReader, embed


class E4SRecModel(System[E4SRecConfig]):
    """The network of E4SRec: what its phases train and its scorer ranks with."""

    ids: Tensor
    id_scale: Tensor
    """The giver's item vectors are this times `ids`."""
    blend: Tensor
    """Weight of the language model's score beside the giver's."""

    def __init__(self, config: E4SRecConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        if not sizes.id_size:
            raise ConfigError("e4srec needs ID embeddings; train it with `seqloom train`")
        self.base = load_shared_base(config.llm)
        self.register_buffer("ids", torch.zeros(sizes.num_items, sizes.id_size))
        self.reader = HistoryReader(
            Adapter(self.base, config.lora if config.train_adapter else None),
            sizes.id_size,
            config.prompt.instruction,
            respond=config.mode == "prompt",
            dropout=config.dropout,
        )
        self.head = nn.Parameter(torch.zeros(sizes.num_items, self.base.width))
        self.giver: System[Any] | None = None
        """The recommender that gave the IDs and whose score is added."""
        self.giver_name = ""
        if config.add_giver:
            self.register_buffer("id_scale", torch.ones(()))
            self.register_buffer("blend", torch.tensor(config.blend))

    @property
    def max_len(self) -> int:
        """The longest history that is read."""
        return self.config.max_len

    def states(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns the state at every item; mode causal only. Shapes: [B, L], [B] -> [B, L, D]."""
        states: Tensor = self.reader(embed(items, self.ids), lengths)
        return states

    def last_states(
        self, items: Tensor, lengths: Tensor, prefix: Any = None, ids: Tensor | None = None
    ) -> Tensor:
        """Returns the state after each history.

        Args:
            prefix: what `HistoryReader.read_prefix` returned; read again if not given.
            ids: ID embeddings of a longer catalogue, in place of the system's own.

        Shapes: items [B, L], lengths [B], ids [N + M, d] -> [B, D].
        """
        embedded = embed(items, self.ids if ids is None else ids)
        states = self.reader(embedded, lengths, prefix)
        return states if self.reader.respond else last_position(states, lengths)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the language model, which is no submodule, to the same device."""
        self.base.move_to(fn(torch.empty(0, device=self.head.device)).device)
        super()._apply(fn, recurse)
        return self
