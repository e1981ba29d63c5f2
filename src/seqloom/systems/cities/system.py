"""CITIES: after training, tail items' vectors are inferred from the items around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.core.phase import Phase
from seqloom.data.sequences import Sequences
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.cities.config import CITIESConfig
from seqloom.systems.cities.inference import ContextInference
from seqloom.systems.cities.phase import ContextPhase
from seqloom.systems.id_only import IDSystem
from seqloom.systems.sequence import RankingPhase
from seqloom.systems.tail_blend import BlendPhase, blended, mean_state

_ITEMS_AT_ONCE = 256


class CITIES(IDSystem[CITIESConfig]):
    """An ID system; then a network learns to regress a head item's row from a few of its contexts,
    and the rows of tail items are completed by what it infers from theirs.

    Source: Jang et al., ICDM 2020.
    Differs: what is inferred is blended with the trained row by k / (count + k), with a k chosen on the
    validation part, 0 among them; the authors overwrite the row, which for an item with four events throws
    away what these told. Inferred rows get the centre and radius of trained ones, since a regression
    shrinks them, and a blended row keeps its mean score, the item's own popularity (`tail_blend`). A
    tail item that never occurs beside another keeps its row.
    """

    name: ClassVar[str] = "cities"
    config_class: ClassVar[type[CITIESConfig]] = CITIESConfig
    item_blend: Tensor

    def __init__(self, config: CITIESConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width, heads = config.encoder.hidden_size, config.inference.num_heads
        if width % heads:
            raise ConfigError(
                f"inference.num_heads {heads} does not divide encoder.hidden_size {width}; "
                "choose a divisor"
            )
        with torch.random.fork_rng(devices=[]):  # the item table is drawn as the ID-only system's
            self.inference = ContextInference(config.inference, width)
        self.register_buffer("item_blend", torch.tensor(0.0))
        self.register_load_state_dict_pre_hook(_of_earlier_versions)
        self._tail: ContextPhase | None = None

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """The recommender, the inference of rows, and how far it is followed."""
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
        """The item table; when ranking, with tail rows as far as they are blended. Shapes: [N, D]."""
        if self.training or self._tail is None or not float(self.item_blend):
            return self.items
        with torch.no_grad():
            return self._completed(self._tail)

    def finish(self) -> None:
        """Blend the tail rows for good."""
        self.eval()
        with torch.no_grad():
            self.items.copy_(self.item_vectors())
        self._tail = None

    def _completed(self, tail: ContextPhase) -> Tensor:
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

    def _encode(self, histories: Sequences) -> Tensor:
        """States by the rows as they were trained. Shapes: R rows -> [R, D]."""
        batch = histories.pad(self.max_len).to(self.items.device)
        return self.queries(batch.items, batch.lengths, self.items)


def _of_earlier_versions(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Read a run that has no blend: its rows are final."""
    state.setdefault(prefix + "item_blend", torch.tensor(0.0))
