"""Nearest neighbours by text: items whose texts resemble those of the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from seqloom.core.phase import Phase
from seqloom.core.protocols import KnownItems, NewItems, NewRows, RowsOf, Scorer
from seqloom.data.sequences import PaddedBatch
from seqloom.nn.item_product import ItemProduct
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.config import TextKNNConfig
from seqloom.text.store import load_embeddings
from seqloom.text.whitening import fit_whitening, whitened

VECTORS = "vectors"
"""Name of the only item table."""


class TextKNN(System[TextKNNConfig]):
    """Sums, over the history's items, the cosine of their text and every item's, in a whitened space.

    No event is used, unless the encoder was tuned by the log. A new item gets the vector that it would have
    had from the start.

    Source: content-based filtering by cosine (Lops et al., 2011); whitening of text embeddings as in Su et
    al., 2021 (arXiv 2103.15316).
    Differs: recent items of the history weigh more; the covariance is shrunk (`text.whitening`).
    """

    name: ClassVar[str] = "textknn"
    config_class: ClassVar[type[TextKNNConfig]] = TextKNNConfig
    yardstick: ClassVar[bool] = True
    new_items_by = "embedding"
    redescribes_items: ClassVar[bool] = True
    vectors: Tensor
    mean: Tensor
    matrix: Tensor

    def __init__(self, config: TextKNNConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = sizes.text_size
        self.register_buffer("vectors", torch.zeros(sizes.num_items, width))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("matrix", torch.zeros(width, width, dtype=torch.float64))

    @property
    def max_len(self) -> int:
        """The number of history items that are used."""
        return self.config.max_len

    def initialise(self, data: TrainingData) -> None:
        """Whitens the text embedding."""
        self.fit(load_embeddings(data.dataset, self.config.text).items)

    def fit(self, text: Tensor) -> None:
        """Whitens text vectors and takes them as the items'. Shapes: [N, E]."""
        fitted = fit_whitening(text, self.config.whitening)
        self.mean.copy_(fitted.mean)
        self.matrix.copy_(fitted.matrix)
        self.vectors.copy_(whitened(text, self.mean, self.matrix))

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns no phase."""
        return []

    def scorer(self) -> Scorer:
        """Returns a scorer by cosine."""
        return TextKNNScorer(self.vectors, self.config.decay)

    def item_tables(self) -> dict[str, Tensor]:
        """Returns the vectors; see `ExtendsCatalogue`. Shapes: [N, E]."""
        return {VECTORS: self.vectors}

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """Maps any text into the space of the training catalogue; see `ExtendsCatalogue`."""

        def rows(new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
            assert new.vectors is not None
            return NewRows({VECTORS: whitened(new.vectors, self.mean, self.matrix)})

        return rows

    def scorer_over(self, tables: Mapping[str, Tensor]) -> Scorer:
        """Returns a scorer over longer tables; see `ExtendsCatalogue`."""
        return TextKNNScorer(tables[VECTORS], self.config.decay)


class TextKNNScorer:
    """score(u, i) = v_i . sum over the history's j of decay^age(j) v_j, by vectors of length 1."""

    def __init__(self, vectors: Tensor, decay: float) -> None:
        self.item_vectors = vectors
        self.num_items = len(vectors)
        self.score_queries = ItemProduct(vectors)
        self._decay = decay

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns the weighted sum of the history's vectors, 0 if empty. Shapes: [B, L], [B] -> [B, E]."""
        weight = PaddedBatch(items, lengths).recency(self._decay)  # [B, L]
        rows = self.item_vectors[(items - 1).clamp(min=0)]  # [B, L, E]
        return torch.einsum("bl,bld->bd", weight, rows)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue. Shapes: [B, L], [B] -> [B, N]."""
        return self.score_queries(self.queries(items, lengths))
