"""GRU4Rec: a gated recurrent network over the history."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from seqloom.backbones.base import SequenceEncoder
from seqloom.backbones.config import GRU4RecEncoderConfig
from seqloom.core.cost import FLOAT_BYTES, BatchShape, ComputeCost
from seqloom.core.phase import Steps
from seqloom.data.batches import EpochPlan, LastTargets
from seqloom.nn.dropout import Dropout
from seqloom.nn.gru import gru
from seqloom.nn.linear import Linear


class GRU4RecEncoder(SequenceEncoder):
    """A recurrent network, then a linear map back to the width of the item vectors.

    Source: Hidasi et al., ICLR 2016; Hidasi & Karatzoglou, CIKM 2018.
    Differs: whole histories side by side instead of session-parallel mini-batches, which trains the
    same objective without cutting gradients; a final norm, as the other encoders have.
    """

    causal = True

    def __init__(self, config: GRU4RecEncoderConfig) -> None:
        super().__init__(config)
        width, inner = config.hidden_size, config.inner_factor * config.hidden_size
        self.config = config
        self.max_len = config.max_len
        self.dropout = Dropout(config.dropout)
        between = config.dropout if config.num_layers > 1 else 0.0
        self.recurrent = nn.GRU(width, inner, config.num_layers, batch_first=True, dropout=between)
        self.output = Linear(inner, width)
        self.norm = nn.LayerNorm(width)
        # Each of the three gates is initialised as a matrix of its own.
        for name, weight in self.recurrent.named_parameters():
            if name.startswith("weight"):
                for gate in weight.data.chunk(3):
                    nn.init.orthogonal_(gate) if "_hh" in name else nn.init.xavier_uniform_(gate)
            else:
                nn.init.zeros_(weight)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def enter(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Applies dropout; a recurrent network needs no positions. Shapes: [B, L, D] -> [B, L, D]."""
        return self.dropout(vectors)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Runs the recurrence. Shapes: x [B, L, D], lengths [B] -> [B, L, D]."""
        states = gru(self.recurrent, x)
        return self.norm(self.output(self.dropout(states)))

    def training_batches(self, plan: EpochPlan, mask_item: int, seed: int, epoch: int) -> Steps:
        """Returns batches with all positions as targets, or only the last of each row."""
        return LastTargets(plan) if self.config.train_on == "last" else plan

    def batch_shape(self, lengths: Tensor, width: int) -> BatchShape:
        """Returns the shape of a batch with the chosen targets. Shapes: [B]."""
        shape = super().batch_shape(lengths, width)
        return (
            replace(shape, targets=float(len(lengths))) if self.config.train_on == "last" else shape
        )

    def cost(self, rows: int, length: int) -> ComputeCost:
        """Returns the cost of three gates at each position, the linear map and the norm."""
        config, positions = self.config, rows * length
        width, inner = config.hidden_size, config.inner_factor * config.hidden_size
        into = (width + (config.num_layers - 1) * inner) * inner
        states = config.num_layers * inner
        return ComputeCost(
            products=18 * positions * (into + states * inner) + 6 * positions * inner * width,
            elements=40 * positions * states + 50 * positions * width,
            calls=80 + 50 * config.num_layers * length,
            held=FLOAT_BYTES * positions * (12 * states + 8 * width),
        )
