"""CITIES: after training, tail items' vectors are inferred from the items around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from seqloom.core.phase import Phase
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.cities.config import CITIESConfig
from seqloom.systems.cities.model import CITIESModel
from seqloom.systems.cities.phase import ContextPhase
from seqloom.systems.sequence import RankingPhase
from seqloom.systems.tail_blend import BlendPhase, blended, mean_state

_ITEMS_AT_ONCE = 256


class CITIES(CITIESModel):
    """An ID system; afterwards a network learns to infer a head item's row from a few of its contexts,
    and completes the rows of tail items from theirs.

    Source: Jang et al., ICDM 2020.
    Differs: an inferred row is blended with the trained one by k / (count + k), with a k chosen on the
    validation part, 0 included; the authors overwrite the row, which for an item with four events discards
    what these taught. Inferred rows get the centre and radius of trained ones, since a regression
    shrinks them, and a blended row keeps its mean score, the item's own popularity (`tail_blend`). A
    tail item that never occurs beside another keeps its row.
    """

    name: ClassVar[str] = "cities"
    config_class: ClassVar[type[CITIESConfig]] = CITIESConfig

    def __init__(self, config: CITIESConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self._tail: ContextPhase | None = None

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns the recommender's phase, that of the inference network, and the choice of the blend."""
        train = RankingPhase(self, data)
        if not self.config.inference.epochs:
            return [train]
        tail = ContextPhase(self, data)
        if not len(tail.tail_items):
            below = self.config.inference.tail_below
            data.progress.note(
                f"no item has fewer than {below} training events (inference.tail_below), so cities "
                "completes none and stays as its encoder is"
            )
            return [train]
        self._tail = tail
        return [train, tail, BlendPhase("item blend", self, "item_blend")]

    def item_vectors(self) -> Tensor:
        """Returns the item table; in evaluation mode, with blended tail rows. Shapes: [N, D]."""
        if self.training or self._tail is None or not float(self.item_blend):
            return self.items
        with torch.no_grad():
            return self._complete_tail(self._tail)

    def finish(self) -> None:
        """Stores the blended tail rows in the item table."""
        self.eval()
        with torch.no_grad():
            self.items.copy_(self.item_vectors())
        self._tail = None

    def _complete_tail(self, tail: ContextPhase) -> Tensor:
        """Returns the item table with blended tail rows. Shapes: -> [N, D]."""
        table, rows = self.items.clone(), tail.tail_items.to(self.items.device) - 1
        parts = [
            self.inference(tail.contexts(items, None).to(table.device), self.items)
            for items in tail.tail_items.split(_ITEMS_AT_ONCE)
        ]
        counts = tail.tail_counts.to(table.device)
        centre = mean_state(tail.train, self._encode)
        inferred = torch.cat(parts).to(table.dtype)
        table[rows] = blended(table[rows], inferred, counts, self.item_blend, centre)
        return table
