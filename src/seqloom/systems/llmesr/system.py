"""LLM-ESR: two views, their fusion and self-distillation over any sequence encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.backbones.base import padding_mask
from seqloom.backbones.config import TransformerConfig
from seqloom.backbones.factory import build_backbone
from seqloom.core.errors import ConfigError
from seqloom.core.phase import Mean, Phase
from seqloom.core.protocols import KnownItems, RowsOf, Scorer
from seqloom.data.batches import TrainingBatch
from seqloom.data.sequences import Sequences
from seqloom.nn.attention import last_position
from seqloom.nn.fusion import CrossViewFusion
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.llmesr.config import LLMESRConfig
from seqloom.systems.llmesr.distillation import Distillation
from seqloom.systems.llmesr.late_fusion import RecencyPhase
from seqloom.systems.llmesr.new_items import VECTORS, InferredVectors
from seqloom.systems.llmesr.recency_view import RecencyView, hold_last
from seqloom.systems.llmesr.views import SemanticView
from seqloom.systems.repeat_scores import RepeatPhase
from seqloom.systems.sequence import RankingPhase, SequenceSystem
from seqloom.systems.tail_blend import SCORE_BLENDS, BlendPhase
from seqloom.systems.text_start import scaled_pca
from seqloom.systems.texttower import TextTower
from seqloom.systems.view_phase import TEXT_ALONE, ViewPhase, score_weights
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
    new_items_by = "embedding"  # of one with a text tower: "words"
    redescribes_items: ClassVar[bool] = True
    blend: Tensor

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
        self.semantic: SemanticView | RecencyView | TextTower | None = None
        if views != "collaborative":
            self.semantic = _semantic_view(config, sizes)
        if self.late:
            # Weight of the semantic score; see `score_weights`.
            alone = views == "semantic"
            self.register_buffer("blend", torch.tensor(1.0 if alone else config.semantic.blend))
        both = views == "both" and not self.late
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
    def late(self) -> bool:
        """Whether the views learn apart and their scores are added."""
        return self.config.views != "collaborative" and self.config.semantic.encoder != "shared"

    @property
    def input_size(self) -> int:
        """D where the views learn apart, since texts then pass the encoder by."""
        return self.config.encoder.hidden_size if self.late else self.vector_size

    @property
    def vector_size(self) -> int:
        """D': D for the collaborative view; D for a shared semantic one, E by recency, that of a tower."""
        views, width = self.config.views, self.config.encoder.hidden_size
        own = {"tower": self.config.semantic.tower.encoder.hidden_size, "shared": width}
        semantic = own.get(self.config.semantic.encoder, self.sizes.text_size)
        return {"collaborative": width, "semantic": semantic, "both": width + semantic}[views]

    @property
    def fixed_entries(self) -> frozenset[str]:
        """The frozen text embedding, and the map that whitened it."""
        if isinstance(self.semantic, TextTower):
            return frozenset(f"semantic.{name}" for name in self.semantic.fixed_entries)
        if self.late:
            return frozenset({"semantic.text", "semantic.mean", "semantic.matrix"})
        frozen = self.semantic is not None and not self.config.semantic.trained_text
        return frozenset({"semantic.text"}) if frozen else frozenset()

    @property
    def uses_language_model(self) -> bool:
        """See `System`; the words of a tower may have one too, and validation may leave a view out."""
        if not isinstance(self.semantic, TextTower):
            return super().uses_language_model
        table, words = score_weights(self.blend).tolist()
        read = bool(words) and self.semantic.uses_language_model
        return read or (bool(table) and super().uses_language_model)

    @property
    def reads_text(self) -> bool:
        """See `System`; a tower reads the words."""
        if not isinstance(self.semantic, TextTower):
            return super().reads_text
        table, words = score_weights(self.blend).tolist()
        return bool(words) or (bool(table) and super().reads_text)

    def initialise(self, data: TrainingData) -> None:
        """Initialises both item tables from the text embedding."""
        std, whitening = self.config.initial_std, self.config.whitening
        width = self.config.encoder.hidden_size
        if isinstance(self.semantic, TextTower):
            try:
                self.semantic.initialise(data)
            except ConfigError as error:
                raise ConfigError(
                    f"{error}; or set semantic.encoder=recency, which reads the text embedding alone"
                ) from None
        elif isinstance(self.semantic, RecencyView):
            text = load_embeddings(data.dataset, self.config.text).items
            self.semantic.initialise(text, self.config.semantic.whitening)
        elif self.semantic is not None:
            text = load_embeddings(data.dataset, self.config.text).items
            self.semantic.initialise(text, std, whitening)
        if self.collaborative is None:
            return
        if self.config.collaborative_start == "random":
            nn.init.normal_(self.collaborative, std=std)
            return
        text = load_embeddings(data.dataset, self.config.table_text).items
        with torch.no_grad():
            self.collaborative.copy_(scaled_pca(text, width, std, whitening))

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns the ranking phase, with distillation unless its weight is 0.

        Where the views learn apart, the text's phase comes first, and a blend of the scores last.

        Raises:
            ConfigError: `num_similar` is not smaller than the number of users.
        """
        weight = self.config.semantic.blend
        phase = (
            ViewPhase(self, data, "train", self, weight) if self.late else RankingPhase(self, data)
        )
        self._distil(phase, data)
        text: Phase
        if isinstance(self.semantic, TextTower):
            alone = 1.0 if self.collaborative is None else TEXT_ALONE
            text = ViewPhase(self.semantic, data, "text", self, alone)
        elif isinstance(self.semantic, RecencyView):
            text = RecencyPhase(self.semantic, self.config, data)
        else:
            return [phase]
        if self.collaborative is None:
            return [text]
        phases: list[Phase] = [text, phase, BlendPhase("blend", self, "blend", SCORE_BLENDS)]
        if self.repeats is not None:
            phases.append(RepeatPhase(self, self.repeats, data))
        return phases

    def _distil(self, phase: RankingPhase, data: TrainingData) -> None:
        """Prepares the teachers of the ranking phase, unless their weight is 0."""
        settings = self.config.distillation
        if settings.alpha > 0:
            embeddings = load_embeddings(data.dataset, self.config.text)
            users = data.dataset.num_users
            if settings.num_similar >= users:
                raise ConfigError(
                    f"distillation.num_similar is {settings.num_similar}, but of {users} users each has "
                    f"{users - 1} others: lower it, or set distillation.alpha=0 to train without them"
                )
            width = self.config.encoder.hidden_size if self.late else self.vector_size
            recall = settings.recall if settings.search == "approximate" else None
            similar = embeddings.similar_users(settings.num_similar, data.progress, recall)
            self.distillation = Distillation(
                settings, data.dataset.train, phase.rows, similar, width, data.processes
            )
            self.distillation.to(next(self.parameters()).device)

    def finish(self) -> None:
        """Drops the teachers, which only training needs."""
        self.distillation = None

    def item_vectors(self) -> Tensor:
        """Returns [c_i ; s_i] of every item. Shapes: [N, D']."""
        tables: list[Tensor] = [] if self.collaborative is None else [self.collaborative]
        if self.semantic is not None:
            view = self.semantic
            tables.append(view.item_vectors() if isinstance(view, TextTower) else view())
        return torch.cat(tables, 1)

    def ranked_vectors(self) -> Tensor:
        """Returns c_i where the views learn apart, else [c_i ; s_i]. Shapes: [N, D or D']."""
        if self.late and self.collaborative is not None:
            return self.collaborative
        return self.item_vectors()

    def ranked_states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns u_c where the views learn apart, else [u_c ; u_s]. Shapes: -> [B, L, D or D']."""
        if self.late and self.collaborative is not None:
            return self._encode(items, lengths, vectors)
        return self.states(items, lengths, vectors)

    def _encode(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Encodes one view. Shapes: [B, L], [B], [N, D] -> [B, L, D]."""
        inputs = self.embed(items, vectors) * self.scale
        return self.encoder(self.encoder.enter(inputs, lengths), lengths)

    def _late_states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns both views, each from its own columns. Shapes: as `states`."""
        width = 0 if self.collaborative is None else self.config.encoder.hidden_size
        text = self._text_states(items, lengths, vectors[:, width:])
        if self.collaborative is None:
            return self.blend * text
        first, second = score_weights(self.blend)
        return torch.cat(
            [first * self._encode(items, lengths, vectors[:, :width]), second * text], -1
        )

    def _text_states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns the states of a semantic view that learns apart. Shapes: vectors [N, E] -> [B, L, E]."""
        real = (items > 0) & (items <= len(vectors))
        if isinstance(self.semantic, TextTower):
            states = self.semantic.states(torch.where(real, items, 0), lengths, vectors)
            return hold_last(states, real)
        assert isinstance(self.semantic, RecencyView)
        rows = F.embedding((items - 1).clamp(0, len(vectors) - 1), vectors)
        return self.semantic.states(rows, real)

    def states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns [u_c ; u_s] at every position. Shapes: [B, L], [B], [N, D'] -> [B, L, D']."""
        if self.late:
            return self._late_states(items, lengths, vectors)
        if self.config.views != "both":
            return self._encode(items, lengths, vectors)
        inputs = self.embed(items, vectors) * self.scale
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
        return {"collaborative": slice(0, width), "semantic": slice(width, self.vector_size)}

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

    def write_files(self, folder: Path) -> None:
        """Writes the words of a text tower."""
        if isinstance(self.semantic, TextTower):
            self.semantic.write_files(folder)

    def read_files(self, folder: Path) -> None:
        """Reads the files of `write_files`."""
        if isinstance(self.semantic, TextTower):
            self.semantic.read_files(folder)

    def begin_epoch(self, epoch: int) -> None:
        """Encodes the teachers with the weights at the start of the epoch."""
        if self.distillation is not None:
            self.distillation.begin_epoch(epoch, self._represent)

    @property
    def replays(self) -> bool:
        """Distillation chooses its users on the host, so their number changes from batch to batch."""
        return self.distillation is None

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
        items, lengths = self.encoder.as_query(batch.items, batch.lengths, self.mask_item)
        states = self.ranked_states(items, lengths, self.ranked_vectors())
        self.train(training)
        return last_position(states, lengths)


def _semantic_view(config: LLMESRConfig, sizes: Sizes) -> SemanticView | RecencyView | TextTower:
    """Builds the view that `semantic.encoder` names."""
    settings = config.semantic
    if settings.encoder == "tower":
        # It reads the histories of the run, with the [MASK] of a bidirectional encoder.
        length = config.encoder.max_len + int(config.encoder.kind == "bert4rec")
        encoder = settings.tower.encoder.model_copy(update={"max_len": length})
        update = {"seed": config.seed, "encoder": encoder}
        return TextTower(settings.tower.model_copy(update=update), sizes)
    if settings.encoder == "recency":
        return RecencyView(sizes.num_items, sizes.text_size, config.encoder.max_len + 1)
    return SemanticView(settings, sizes.num_items, sizes.text_size, config.encoder.hidden_size)
