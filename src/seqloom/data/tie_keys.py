"""Keys that break ties: they depend only on the id, never on an item's number or a row's position."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

_PERSON = b"seqloom ties"


def tie_keys(ids: Sequence[str]) -> Tensor:
    """Returns a 63-bit keyed hash of each id; of equal scores the lower key comes first.

    Item numbers follow the first appearance of an id in the log. Breaking ties by number would use the
    order of the file: in a file with the newest events first, it would favour the targets themselves.

    Shapes: -> [ids] int64.
    """
    digests = (
        blake2b(each.encode("utf-8", "surrogatepass"), digest_size=8, person=_PERSON).digest()
        for each in ids
    )
    words = np.frombuffer(b"".join(digests), dtype="<u8")
    return torch.from_numpy((words >> np.uint64(1)).astype(np.int64))
