"""CITIES' network: a recommender over item ids, and the network that infers item vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.data.sequences import Sequences
from seqloom.systems.base import Sizes
from seqloom.systems.cities.config import CITIESConfig
from seqloom.systems.cities.inference import ContextInference
from seqloom.systems.id_only import IDSystem


class CITIESModel(IDSystem[CITIESConfig]):
    """The network of CITIES: what its phases train."""

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
        self.register_load_state_dict_pre_hook(_read_earlier_versions)

    def _encode(self, histories: Sequences) -> Tensor:
        """Returns states, from the rows as trained. Shapes: R rows -> [R, D]."""
        batch = histories.pad(self.max_len).to(self.items.device)
        return self.queries(batch.items, batch.lengths, self.items)


def _read_earlier_versions(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Reads a run without a blend: its rows are final."""
    state.setdefault(prefix + "item_blend", torch.tensor(0.0))
