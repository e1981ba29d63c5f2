"""GRU4Rec over item ids."""

from __future__ import annotations

from typing import ClassVar

from seqloom.systems.config import GRU4RecConfig
from seqloom.systems.id_only import IDSystem


class GRU4Rec(IDSystem[GRU4RecConfig]):
    """A recurrent network over item ids.

    Source: Hidasi et al., ICLR 2016.
    Differs: exact softmax over the catalogue in place of sampled pairwise losses, at every position.
    """

    name: ClassVar[str] = "gru4rec"
    config_class: ClassVar[type[GRU4RecConfig]] = GRU4RecConfig
