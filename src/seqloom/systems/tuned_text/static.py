"""Word vectors tuned by the log, written as a static encoder of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from seqloom.backbones.config import WordSASRecEncoderConfig
from seqloom.core.phase import Phase
from seqloom.hub.quiet import quiet_transformers
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.base_config import OffsetLossConfig
from seqloom.systems.config import TextTowerConfig
from seqloom.systems.sequence import RankingPhase
from seqloom.systems.texttower import TextTower
from seqloom.systems.tuned_text.config import StaticTuningConfig
from seqloom.text.encoders.sentence import build_sentence_model
from seqloom.text.encoders.words import save_words


class StaticEncoder:
    """The item side of a `TextTower` whose histories are recency-weighted sums, as textknn's are.

    Each step embeds the whole catalogue and takes the exact softmax over it.
    """

    def __init__(
        self, config: StaticTuningConfig, data: TrainingData, device: torch.device
    ) -> None:
        self.tower = TextTower(_tower_config(config), Sizes(num_items=data.dataset.num_items))
        self.tower.initialise(data)
        self.tower.to(device)
        self._data = data

    @property
    def module(self) -> nn.Module:
        """See `TunedEncoder`."""
        return self.tower

    def phases(self) -> Sequence[Phase]:
        """See `TunedEncoder`."""
        return [RankingPhase(self.tower, self._data)]

    @torch.inference_mode()
    def item_vectors(self) -> Tensor:
        """See `TunedEncoder`. Shapes: [N, D]."""
        return self.tower.eval().item_vectors().cpu()

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """See `TunedEncoder`. A token's vector is multiplied by its weight, so that a mean suffices.

        sentence-transformers has no pairs of words; with these the folder is one of seqloom alone.
        """
        vocabulary = self.tower.vocabulary
        if len(vocabulary.pairs):
            save_words(folder, vocabulary, self.tower.words.weighted())
            return
        from sentence_transformers.base.modules import Normalize
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        table = self.tower.words.weighted().cpu()[vocabulary.rows]
        with quiet_transformers():
            words = StaticEmbedding(vocabulary.tokenizer, embedding_weights=table)
            model = build_sentence_model([words, Normalize()])
            model.save(str(folder), create_model_card=False)


def _tower_config(config: StaticTuningConfig) -> TextTowerConfig:
    own = config.model_dump(
        include=set(TextTowerConfig.model_fields) - {"loss", "encoder", "words"}
    )
    return TextTowerConfig(
        **own,
        words=config.words,
        query="recency",
        encoder=WordSASRecEncoderConfig(
            hidden_size=config.width, max_len=config.max_len, num_heads=1, output_dropout=0.0
        ),
        loss=OffsetLossConfig(popularity_offset=config.popularity_offset),
    )
