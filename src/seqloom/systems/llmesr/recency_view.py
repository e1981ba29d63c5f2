"""A semantic view without an encoder of its own: a learned mean of the history's text vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.nn.recency import RecencySum
from seqloom.systems.text_start import check_spread
from seqloom.text.whitening import fit_whitening, whitened

_FIRST_DECAY, _FIRST_SCALE = 0.6, 10.0


class RecencyView(nn.Module):
    """score(u, i) = exp(a) sum over the history's j of w_age(j) t_j . t_i, by whitened texts t of length 1.

    The text keeps its full width and no vector of an item is trained, so the view says something else than
    an item table that starts from the same text. Trained are the L weights w and the scale a.

    Source: the paper has an adapter and the shared encoder in its place (LLM-ESR, eq. 2 and section 3.2);
    the vectors are those of `TextKNN`.
    """

    text: Tensor
    mean: Tensor
    matrix: Tensor

    def __init__(self, num_items: int, text_size: int, max_len: int) -> None:
        super().__init__()
        self.register_buffer("text", torch.zeros(num_items, text_size))
        self.register_buffer("mean", torch.zeros(text_size, dtype=torch.float64))
        self.register_buffer("matrix", torch.zeros(text_size, text_size, dtype=torch.float64))
        self.recency = RecencySum(max_len, _FIRST_DECAY)
        self.log_scale = nn.Parameter(torch.tensor(_FIRST_SCALE).log())

    @torch.no_grad()
    def initialise(self, text: Tensor, whitening: float) -> None:
        """Whitens the text embedding.

        Raises:
            ConfigError: all texts have the same embedding.

        Shapes: text [N, E].
        """
        check_spread(text)
        fitted = fit_whitening(text, whitening)
        self.mean.copy_(fitted.mean)
        self.matrix.copy_(fitted.matrix)
        self.text.copy_(whitened(text, self.mean, self.matrix))

    def forward(self) -> Tensor:
        """Returns the vector of every item. Shapes: [N, E]."""
        return self.text

    def project(self, text: Tensor) -> Tensor:
        """Maps text embeddings into the space of the view. Shapes: [M, E] -> [M, E]."""
        return whitened(text, self.mean, self.matrix)

    def states(self, rows: Tensor, real: Tensor) -> Tensor:
        """Returns the weighted sum of the texts up to every position.

        At [MASK] it is that of the position before, so that the last item of a history is one step back
        whether or not [MASK] follows it.

        Shapes: rows [B, L, E], the texts of the items; real [B, L], false for padding and [MASK]
        -> [B, L, E].
        """
        states = self.recency(rows * real[..., None]) * self.log_scale.exp()
        return hold_last(states, real)


def hold_last(states: Tensor, real: Tensor) -> Tensor:
    """Gives [MASK], which is no item and does not age the others, the state of the position before.

    Shapes: states [B, L, E], real [B, L], false for padding and [MASK] -> [B, L, E].
    """
    return torch.where(real[..., None], states, F.pad(states[:, :-1], (0, 0, 1, 0)))
