"""CITIES: after training, tail items' vectors are inferred from the items around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.phase import Phase
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.cities.config import CITIESConfig
from seqloom.systems.cities.inference import ContextInference
from seqloom.systems.cities.phase import ContextPhase
from seqloom.systems.id_only import IDSystem
from seqloom.systems.sequence import RankingPhase

_ITEMS_AT_ONCE = 256


class CITIES(IDSystem[CITIESConfig]):
    """An ID system; then a network learns to regress a head item's row from a few of its contexts,
    and the rows of tail items are overwritten with what it infers from theirs.

    Source: Jang et al., ICDM 2020.
    Differs: the network's weights are chosen on the ranking of the validation part with the tail rows
    overwritten, not on the regression; a tail item that never occurs beside another keeps its row.
    """

    name: ClassVar[str] = "cities"
    config_class: ClassVar[type[CITIESConfig]] = CITIESConfig
    overwriting: Tensor
    """Whether tail rows are those that are inferred; only while training."""

    def __init__(self, config: CITIESConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width, heads = config.encoder.hidden_size, config.inference.num_heads
        if width % heads:
            raise ConfigError(
                f"inference.num_heads {heads} does not divide encoder.hidden_size {width}; "
                "choose a divisor"
            )
        self.inference = ContextInference(config.inference, width)
        self._tail: ContextPhase | None = None

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """The recommender, then the inference of rows."""
        self._tail = ContextPhase(self, data)
        # Part of the state of a checkpoint: weights from before the second phase keep their rows.
        self.register_buffer("overwriting", torch.tensor(0, device=self.items.device))
        return [RankingPhase(self, data), self._tail]

    def item_vectors(self) -> Tensor:
        """The item table; in the second phase with tail rows as they are inferred. Shapes: [N, D]."""
        return self._overwritten() if self._tail and self.overwriting else self.items

    def finish(self) -> None:
        """Overwrite the tail rows for good, if the weights that are kept are of the second phase."""
        if self._tail is None:
            return
        if self.overwriting:
            self.inference.eval()
            with torch.no_grad():
                self.items.copy_(self._overwritten())
        del self.overwriting
        self._tail = None

    def _overwritten(self) -> Tensor:
        assert self._tail is not None
        table = self.items.clone()
        for items in self._tail.tail_items.split(_ITEMS_AT_ONCE):
            contexts = self._tail.contexts(items, None).to(table.device)
            rows = items.to(table.device) - 1
            table[rows] = self.inference(contexts, self.items).to(table.dtype)
        return table
