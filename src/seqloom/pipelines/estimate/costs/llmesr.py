"""Costs of LLM-ESR beyond those of a system over item ids."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from seqloom.core.cost import FLOAT_BYTES, BatchShape, ComputeCost
from seqloom.nn.attention import attention_cost
from seqloom.pipelines.estimate.costs.sequence import SequenceCosts
from seqloom.systems.llmesr.system import LLMESR


class LLMESRCosts(SequenceCosts[LLMESR]):
    """Two views through the encoder, the adapter over all texts, the teachers' states."""

    def vectors_cost(self) -> ComputeCost:
        """The adapter's product over the catalogue and its gradient; the views side by side."""
        items, width, text = self.system.sizes.num_items, self.system.config.encoder.hidden_size, 0
        if self.system.config.views != "collaborative":
            text = self.system.sizes.text_size
        settings = self.system.config.semantic
        inner = (settings.adapter_size or max(text // 2, width)) * (settings.adapter_layers - 1)
        trained = 3 if settings.trained_text else 2
        return ComputeCost(
            # The adapter's maps are multiplied first, then applied once.
            products=2 * trained * items * text * width + 6 * inner * text * width,
            moved=FLOAT_BYTES * items * (2 * text + 6 * self.system.vector_size),
            calls=30,
            held=2 * FLOAT_BYTES * items * self.system.vector_size,
        )

    def states_cost(self, rows: int, length: int) -> ComputeCost:
        """Cross-attention between the views, and the encoder over both."""
        if self.system.config.views != "both":
            return self.system.encoder.cost(rows, length)
        fusion, width = self.system.config.fusion, self.system.config.encoder.hidden_size
        both = self.system.encoder.cost(2 * rows, length)
        if not fusion.cross_attention:
            return both
        return both + attention_cost(width, fusion.num_heads, rows, length) * 2

    def extra_cost(self, batch: BatchShape) -> ComputeCost:
        """Students against teachers; the teachers' states too where a step encodes them."""
        settings = self.system.config.distillation
        if settings.alpha == 0:
            return ComputeCost()
        similar = settings.num_similar * batch.rows
        compared = ComputeCost(
            elements=8 * similar * self.system.vector_size,
            gathered=similar,
            calls=40,
            held=2 * FLOAT_BYTES * similar * self.system.vector_size,
        )
        if settings.teacher == "epoch":
            return compared
        return compared + self.states_cost(similar, batch.length) * (1 / 3)

    def epoch_cost(self, rows: Tensor) -> ComputeCost:
        """All users' states at the start of an epoch. Shapes: [users]."""
        settings = self.system.config.distillation
        if settings.alpha == 0 or settings.teacher == "step":
            return ComputeCost()
        lengths = rows.clamp(max=self.system.encoder.max_len).sort().values
        parts = [self.states_cost(len(part), int(part.max())) for part in lengths.split(512)]
        vectors = self.vectors_cost() * len(parts)  # recomputed for every part
        bank = FLOAT_BYTES * len(rows) * self.system.vector_size
        return replace((sum(parts, ComputeCost()) + vectors) * (1 / 3), held=bank)
