"""The network of E4SRec: ID embeddings, a reader of histories, and the vectors that score."""

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
from seqloom.systems.e4srec.reader import HistoryReader, Prefix, embed
from seqloom.systems.e4srec.text_side import TextSide
from seqloom.systems.view_phase import TEXT_ALONE


class E4SRecModel(System[E4SRecConfig]):
    """The network of E4SRec: what its phases train and its scorer ranks with."""

    ids: Tensor
    id_scale: Tensor
    """The giver's item vectors are this times `ids`."""
    blend: Tensor
    """Weight of the language model's score, or that of the text, beside the giver's."""

    def __init__(self, config: E4SRecConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        if not sizes.id_size:
            raise ConfigError("e4srec needs ID embeddings; train it with `seqloom train`")
        self.base = load_shared_base(config.llm)
        self.register_buffer("ids", torch.zeros(sizes.num_items, sizes.id_size))
        words = config.candidates == "words"
        self.text = TextSide(config, sizes, self.base.width) if words else None
        adapted = config.train_adapter and config.use_llm
        self.reader = HistoryReader(
            Adapter(
                self.base,
                config.lora if adapted else None,
                gradient_checkpointing=config.llm.gradient_checkpointing,
            ),
            sizes.id_size + (0 if self.text is None else self.text.size),
            config.prompt.instruction,
            respond=config.mode == "prompt",
            dropout=config.dropout,
        )
        self.head: nn.Parameter | None = None
        if self.text is None:
            self.head = nn.Parameter(torch.zeros(sizes.num_items, self.base.width))
        elif not config.use_llm:
            for unused in (self.reader, self.text.projection, self.text.gate):
                unused.requires_grad_(False)
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

    def candidates(self) -> Tensor:
        """Returns what states are multiplied with: rows of the head, or text vectors. Shapes: [N, D']."""
        if self.text is not None:
            return self.text.tower.item_vectors()
        assert self.head is not None
        return self.head

    def inputs(self, candidates: Tensor, ids: Tensor | None = None) -> Tensor:
        """Returns what the language model reads of each item: its ID embedding, and its text vector if any.

        Shapes: candidates [N, D'], ids [N, d], by default the system's own -> [N, d or d + D'].
        """
        ids = self.ids if ids is None else ids
        return ids if self.text is None else torch.cat([ids, self.text.readable(candidates)], 1)

    def states(self, items: Tensor, lengths: Tensor, candidates: Tensor | None = None) -> Tensor:
        """Returns the state at every item; mode causal only.

        Shapes: items [B, L], lengths [B], candidates [N, D'], computed if not given -> [B, L, D'].
        """
        candidates = self.candidates() if candidates is None else candidates
        read: Tensor = self.reader(embed(items, self.inputs(candidates)), lengths)
        return read if self.text is None else self.text.states(items, lengths, candidates, read)

    def last_states(
        self, items: Tensor, lengths: Tensor, candidates: Tensor | None = None
    ) -> Tensor:
        """Returns the state after each history. Shapes as `states` -> [B, D']."""
        candidates = self.candidates() if candidates is None else candidates
        read = self.read_last(items, lengths, self.inputs(candidates))
        return (
            read if self.text is None else self.text.last_states(items, lengths, candidates, read)
        )

    def read_last(
        self, items: Tensor, lengths: Tensor, inputs: Tensor, prefix: Prefix | None = None
    ) -> Tensor:
        """Returns the language model's state after each history.

        Args:
            inputs: result of `inputs`.
            prefix: what `HistoryReader.read_prefix` returned; read again if not given.

        Shapes: items [B, L], lengths [B], inputs [N, d'] -> [B, D].
        """
        states: Tensor = self.reader(embed(items, inputs), lengths, prefix)
        return states if self.reader.respond else last_position(states, lengths)

    def output_dropout(self, states: Tensor) -> Tensor:
        """Drops parts of the states that rank; without a text side, the reader has done so already."""
        if self.text is None:
            return states
        dropped: Tensor = self.text.tower.encoder.output_dropout(states)
        return dropped

    def begin_training(self) -> None:
        """Gives the score that is trained a weight beside the giver's, so that validation sees it."""
        self.remembered = None
        if self.config.add_giver and not 0 < self.blend < TEXT_ALONE:
            self.blend.fill_(self.config.blend)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the language model, which is no submodule, to the same device."""
        self.base.move_to(fn(torch.empty(0, device=self.ids.device)).device)
        super()._apply(fn, recurse)
        return self
