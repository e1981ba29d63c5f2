"""Word vectors that are trained, and text vectors made of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.text.words.vocabulary import Bags

_EPS = 1e-6


class WordVectors(nn.Module):
    """Vectors and weights of V words; a text's vector is the weighted sum of its words', of length 1.

    Source: Wieting et al., ICLR 2016, "Towards universal paraphrastic sentence embeddings" (mean of word
    vectors trained on pairs); weights of words as in Arora et al., ICLR 2017.
    Differs: weights are trained, and text vectors have length 1.
    """

    def __init__(self, size: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(size, width))
        self.log_weights = nn.Parameter(torch.zeros(size))
        self.dropout = dropout

    def resize(self, size: int) -> None:
        """Replaces all vectors and weights by zeros for `size` words."""
        width = self.vectors.shape[1]
        self.vectors = nn.Parameter(self.vectors.new_zeros(size, width))
        self.log_weights = nn.Parameter(self.log_weights.new_zeros(size))

    def forward(self, bags: Bags) -> Tensor:
        """Returns the vectors of texts. In training, drops words at random. Shapes: N texts -> [N, D]."""
        weights = self.log_weights[bags.tokens].exp()
        if self.training and self.dropout:
            weights = weights * (torch.rand_like(weights) >= self.dropout)
        summed = F.embedding_bag(
            bags.tokens, self.vectors, bags.starts, mode="sum", per_sample_weights=weights
        )
        return F.normalize(summed, dim=1, eps=_EPS)

    def weighted(self) -> Tensor:
        """Returns each word's vector times its weight, whose mean points where a text's vector does.

        Shapes: -> [V, D].
        """
        return self.vectors * self.log_weights.exp()[:, None]
