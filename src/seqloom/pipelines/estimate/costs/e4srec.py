"""Costs of training E4SRec: a pass through the language model, and the softmax over the head."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from seqloom.core.cost import FLOAT_BYTES, BatchShape, ComputeCost
from seqloom.data.batches import training_rows
from seqloom.data.sequences import Sequences
from seqloom.llm.plugins.adapter_cost import adapter_cost
from seqloom.systems.e4srec.phases import prompt_rows
from seqloom.systems.e4srec.system import E4SRec
from seqloom.systems.ranking_loss import loss_cost

_OF_A_PASS = 1 / 3
"""Memory of a pass without gradients, relative to one with gradients."""


class E4SRecCosts:
    """Costs of E4SRec (`TrainingCosts`). Excludes the training of the item vectors."""

    def __init__(self, system: E4SRec) -> None:
        self.system = system

    def row_lengths(self, histories: Tensor) -> Tensor:
        """Returns whole histories, or a prompt for each target. Shapes: [users] -> [rows]."""
        shaped, config = Sequences.shaped(histories), self.system.config
        if config.mode == "prompt":
            return prompt_rows(shaped, config.max_len).items.lengths
        return training_rows(shaped, config.max_len, config.long_histories).items.lengths

    def batch_shape(self, lengths: Tensor, width: int) -> BatchShape:
        """A target at every item but the first, or one for each prompt. Shapes: [B]."""
        prompts = self.system.config.mode == "prompt"
        targets = len(lengths) if prompts else float((lengths - 1).sum())
        return BatchShape(len(lengths), width - 1, targets)

    def step_cost(self, batch: BatchShape) -> ComputeCost:
        """Projection, language model, ranking loss over the head."""
        width, items = self.system.base.width, self.system.sizes.num_items
        inputs = ComputeCost(
            products=4 * batch.positions * self.system.sizes.id_size * width,
            elements=12 * batch.positions * width,
            gathered=batch.positions,
            calls=60,
            held=FLOAT_BYTES * batch.positions * (self.system.sizes.id_size + 4 * width),
        )
        ranked = loss_cost(self.system.config.loss, batch.targets, items, width)
        recomputed = self.system.config.llm.gradient_checkpointing
        return inputs + self._read(batch.rows, batch.length, recomputed=recomputed) + ranked

    def query_cost(self, rows: int, length: int) -> ComputeCost:
        """A pass without a way back, layer by layer, and a score for each item."""
        width, items = self.system.base.width, self.system.sizes.num_items
        scores = ComputeCost(
            products=2 * rows * items * width,
            elements=rows * items,
            logits=rows * items,
            held=3 * FLOAT_BYTES * rows * items,
        )
        read = self._read(rows, length)
        held = read.held / self.system.base.backbone.config.num_hidden_layers
        return replace(read * _OF_A_PASS, held=held) + scores

    def epoch_cost(self, rows: Tensor) -> ComputeCost:
        """Nothing beside the steps. Shapes: [users]."""
        return ComputeCost()

    def score_width(self) -> int:
        """D."""
        return self.system.base.width

    def shared_bytes(self) -> int:
        """The frozen language model; adapters are parameters of the systems that own them."""
        weights = self.system.base.backbone.parameters()
        return sum(w.numel() * w.element_size() for w in weights if not w.requires_grad)

    def _read(self, rows: int, length: int, *, recomputed: bool = False) -> ComputeCost:
        """The language model over instruction, items and response tokens."""
        before, after = self.system.reader.added_tokens
        adapter = self.system.reader.adapter
        if self.system.reader.causal:
            return adapter_cost(adapter, rows, length + after, before, recomputed=recomputed)
        return adapter_cost(adapter, rows, before + length + after, recomputed=recomputed)
