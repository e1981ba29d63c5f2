"""BERT4Rec: a bidirectional transformer over masked histories."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.backbones.base import SequenceEncoder, padding_mask, transformer_cost
from seqloom.backbones.config import BERT4RecEncoderConfig
from seqloom.core.cost import BatchShape, ComputeCost
from seqloom.data.batches import EpochPlan
from seqloom.data.cloze import ClozePlan
from seqloom.nn.attention import Attention, TransformerBlock, reset_parameters
from seqloom.nn.dropout import Dropout


class BERT4RecEncoder(SequenceEncoder):
    """Bidirectional transformer, trained on masked items; the state of a final [MASK] ranks the next item.

    Source: Sun et al., CIKM 2019, sections 3.2 to 3.6.
    Differs: pre-norm blocks; no projection before the output, as in the other encoders; a share of
    the rows masks the last item only, in place of extra rows that do so. Positions count from
    the newest item, which is equivalent to the paper's padding on the left. Attention can start as the
    mean of all items.
    """

    causal = False
    uses_mask = True

    def __init__(self, config: BERT4RecEncoderConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.config = config
        self.max_len = config.max_len
        self.position = nn.Embedding(config.max_len + 1, width)  # a history and [MASK]
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.num_heads, config.inner_factor * width, config.dropout)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        reset_parameters(self, config.weight_std)
        if config.attention_start == "mean":
            for part in self.modules():
                if isinstance(part, Attention):
                    part.start_as_mean()

    def enter(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Adds positions, then dropout. Shapes: [B, L, D], [B] -> [B, L, D]."""
        places = torch.arange(vectors.shape[1], device=vectors.device)
        age = (lengths[:, None] - 1 - places).clamp(min=0)  # [B, L]
        return self.dropout(vectors + self.position(age))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Encodes real positions only. Shapes: x [B, L, D], lengths [B] of at least 1 -> [B, L, D]."""
        mask = padding_mask(x, lengths)
        for block in self.blocks:
            x = block(x, causal=False, mask=mask)
        return self.norm(x)

    def training_batches(self, plan: EpochPlan, mask_item: int, seed: int, epoch: int) -> ClozePlan:
        """Returns rows with masked items, which are the targets."""
        config = self.config
        return ClozePlan(
            plan, mask_item, config.mask_probability, config.last_probability, seed, epoch
        )

    def as_query(self, items: Tensor, lengths: Tensor, mask_item: int) -> tuple[Tensor, Tensor]:
        """Appends [MASK] to each history. Shapes: items [B, L], lengths [B] -> [B, L + 1], [B]."""
        longer = F.pad(items, (0, 1))
        places = torch.arange(longer.shape[1], device=items.device)
        return torch.where(places == lengths[:, None], mask_item, longer), lengths + 1

    def cost(self, rows: int, length: int) -> ComputeCost:
        """Returns the cost of positions, dropout, blocks and norm."""
        return transformer_cost(self.config, rows, length)

    def batch_shape(self, lengths: Tensor, width: int) -> BatchShape:
        """Returns the shape of whole rows, whose masked items are targets. Shapes: [B]."""
        config = self.config
        # Expected number of masked items; a row without a mask gets one.
        anywhere = config.mask_probability * lengths + (1 - config.mask_probability) ** lengths
        targets = config.last_probability + (1 - config.last_probability) * anywhere
        return BatchShape(len(lengths), width, float(targets.sum()))
