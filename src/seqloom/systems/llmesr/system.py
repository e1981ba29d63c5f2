"""LLM-ESR: two views, their fusion and self-distillation over any sequence encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from seqloom.backbones.base import padding_mask
from seqloom.backbones.config import TransformerConfig
from seqloom.backbones.factory import build_backbone
from seqloom.core.errors import ConfigError
from seqloom.core.phase import Mean, Phase
from seqloom.core.protocols import KnownItems, RowsOf, Scorer
from seqloom.data.batches import TrainingBatch
from seqloom.data.sequences import Sequences
from seqloom.nn.fusion import CrossViewFusion
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.llmesr.config import LLMESRConfig
from seqloom.systems.llmesr.distillation import Distillation
from seqloom.systems.llmesr.new_items import VECTORS, InferredVectors
from seqloom.systems.llmesr.views import SemanticView
from seqloom.systems.sequence import RankingPhase, SequenceSystem
from seqloom.systems.text_start import scaled_pca
from seqloom.text.store import load_embeddings


class LLMESR(SequenceSystem[LLMESRConfig]):
    """score(u, i) = [u_c ; u_s] . [c_i ; s_i], each half from one view of the history.

    Source: LLM-ESR (arXiv 2405.20646), sections 3.2 to 3.4.
    Differs: exact softmax as the ranking loss; cross-attention that never looks ahead and keeps a
    residual; the item vectors are not scaled by sqrt(D) (`scale_inputs`), their initial scale is a key
    instead.
    """

    name: ClassVar[str] = "llmesr"
    config_class: ClassVar[type[LLMESRConfig]] = LLMESRConfig
    uses_text: ClassVar[bool] = True
    new_items_by: ClassVar = "embedding"
    redescribes_items: ClassVar[bool] = True

    def __init__(self, config: LLMESRConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = config.encoder.hidden_size
        scaled = config.scale_inputs and isinstance(config.encoder, TransformerConfig)
        self.scale = width**0.5 if scaled else 1.0
        views = config.views
        self.distillation: Distillation | None = None
        self.collaborative = (
            nn.Parameter(torch.zeros(sizes.num_items, width)) if views != "semantic" else None
        )
        self.semantic = (
            SemanticView(config.semantic, sizes.num_items, sizes.text_size, width)
            if views != "collaborative"
            else None
        )
        both = views == "both"
        self.second_encoder = (
            build_backbone(config.encoder) if both and not config.shared_encoder else None
        )
        self.fusion = (
            CrossViewFusion(
                width,
                config.fusion.num_heads,
                config.encoder.dropout,
                residual=config.fusion.residual,
                weight_std=config.fusion.weight_std,
            )
            if both and config.fusion.cross_attention
            else None
        )

    @property
    def vector_size(self) -> int:
        """D': 2 D with both views, D with one."""
        return self.config.encoder.hidden_size * (2 if self.config.views == "both" else 1)

    @property
    def fixed_entries(self) -> frozenset[str]:
        """The frozen text embedding."""
        frozen = self.semantic is not None and not self.config.semantic.trained_text
        return frozenset({"semantic.text"}) if frozen else frozenset()

    def initialise(self, data: TrainingData) -> None:
        """Initialises both item tables from the text embedding."""
        std, whitening = self.config.initial_std, self.config.whitening
        width = self.config.encoder.hidden_size
        text = load_embeddings(data.dataset, self.config.text).items
        if self.semantic is not None:
            self.semantic.initialise(text, std, whitening)
        if self.collaborative is None:
            return
        if self.config.collaborative_start == "random":
            nn.init.normal_(self.collaborative, std=std)
            return
        if self.config.collaborative_text is not None:
            text = load_embeddings(data.dataset, self.config.collaborative_text).items
        with torch.no_grad():
            self.collaborative.copy_(scaled_pca(text, width, std, whitening))

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns the ranking phase, with distillation unless its weight is 0.

        Raises:
            ConfigError: `num_similar` is not smaller than the number of users.
        """
        phase = RankingPhase(self, data)
        settings = self.config.distillation
        if settings.alpha > 0:
            embeddings = load_embeddings(data.dataset, self.config.text)
            users = data.dataset.num_users
            if settings.num_similar >= users:
                raise ConfigError(
                    f"distillation.num_similar is {settings.num_similar}, but of {users} users each has "
                    f"{users - 1} others: lower it, or set distillation.alpha=0 to train without them"
                )
            recall = settings.recall if settings.search == "approximate" else None
            similar = embeddings.similar_users(settings.num_similar, data.progress, recall)
            self.distillation = Distillation(
                settings, data.dataset.train, phase.rows, similar, self.vector_size, data.processes
            )
            self.distillation.to(next(self.parameters()).device)
        return [phase]

    def finish(self) -> None:
        """Drops the teachers, which only training needs."""
        self.distillation = None

    def item_vectors(self) -> Tensor:
        """Returns [c_i ; s_i] of every item. Shapes: [N, D']."""
        tables: list[Tensor] = [] if self.collaborative is None else [self.collaborative]
        if self.semantic is not None:
            tables.append(self.semantic())
        return torch.cat(tables, 1)

    def states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns [u_c ; u_s] at every position. Shapes: [B, L], [B], [N, D'] -> [B, L, D']."""
        inputs = self.embed(items, vectors) * self.scale
        if self.config.views != "both":
            return self.encoder(self.encoder.enter(inputs, lengths), lengths)
        # Halves of the width: the collaborative and the semantic view, c and s.
        c, s = (self.encoder.enter(view, lengths) for view in inputs.chunk(2, dim=-1))
        if self.fusion is not None:
            mask = None if self.encoder.causal else padding_mask(c, lengths)
            c, s = self.fusion(c, s, causal=self.encoder.causal, mask=mask)
        if self.second_encoder is not None:
            return torch.cat([self.encoder(c, lengths), self.second_encoder(s, lengths)], -1)
        # One shared encoder reads both views as one batch.
        both = self.encoder(torch.cat([c, s]), lengths.repeat(2))  # [2 B, L, D]
        # Not chunk(2): an exported graph keeps the batch size dynamic only if it is named.
        return torch.cat([both[: items.shape[0]], both[items.shape[0] :]], -1)

    def view_columns(self) -> dict[str, slice]:
        """Returns the columns of each view in the vectors."""
        if self.config.views != "both":
            return {}
        width = self.config.encoder.hidden_size
        return {"collaborative": slice(0, width), "semantic": slice(width, 2 * width)}

    def item_tables(self) -> dict[str, Tensor]:
        """Returns the item vectors; see `ExtendsCatalogue`. Shapes: [N, D']."""
        with torch.inference_mode():
            return {VECTORS: self.item_vectors()}

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """Returns a function that infers vectors; see `ExtendsCatalogue`. The weights hold the trained text.

        Raises:
            ConfigError: only the collaborative view scores, which reads no text.
        """
        if self.semantic is None:
            raise ConfigError("views=collaborative has no text view, so it cannot take new items")
        return InferredVectors(self.semantic, self.collaborative)

    def scorer_over(self, tables: Mapping[str, Tensor]) -> Scorer:
        """Returns a scorer over longer tables; see `ExtendsCatalogue`."""
        return self.vector_scorer(tables[VECTORS])

    def begin_epoch(self, epoch: int) -> None:
        """Encodes the teachers with the weights at the start of the epoch."""
        if self.distillation is not None:
            self.distillation.begin_epoch(epoch, self._represent)

    def extra_losses(self, batch: TrainingBatch, states: Tensor) -> dict[str, Mean]:
        """Returns the distillation loss."""
        if self.distillation is None:
            return {}
        return {"distillation": self.distillation(batch, states, self._represent)}

    @torch.no_grad()
    def _represent(self, users: Sequences) -> Tensor:
        """Returns states of users after their training part, without dropout. Shapes: -> [B, D']."""
        training = self.training
        self.eval()
        batch = users.pad(self.max_len).to(next(self.parameters()).device)
        states = self.queries(batch.items, batch.lengths, self.item_vectors())
        self.train(training)
        return states
