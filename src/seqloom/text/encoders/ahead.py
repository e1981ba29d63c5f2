"""Encodes many texts on a GPU: tokenised ahead of it, sorted by length, in batches of many tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqloom.core.batching import padded_batches
from seqloom.core.errors import EmbeddingError

DEVICE_CHUNK = 2048
"""Texts that an encoder takes at a time on a GPU."""
_GROUP, _AHEAD = 512, 3
"""Texts that are tokenised together, and groups of them that may wait for the device."""
_MOST_TOKENS, _STATES = 1 << 16, 1 << 26
"""Tokens of a batch: at most so many, and so many numbers in a state of all of them."""

Features = Mapping[str, Any]


@dataclass(frozen=True)
class TokenBatch:
    """Tokens of some texts, on the host."""

    rows: list[int]
    """Numbers of the texts."""
    features: Features
    """Inputs of the model, padded to the longest of them."""


def tokens_for(width: int) -> int:
    """Returns the tokens of a batch for a model of this width."""
    return max(1024, min(_MOST_TOKENS, _STATES // width))


def batches_ahead(
    texts: Sequence[str],
    count_tokens: Callable[[list[str]], list[int]],
    tokenise: Callable[[list[str]], Features],
    *,
    rows: int,
    tokens: int,
) -> Iterator[TokenBatch]:
    """Yields all texts in batches of similar length, longest first, and tokenises the next ones meanwhile.

    One thread tokenises, because tokenizers keep settings of padding and truncation between calls; within
    a call the library of fast tokenizers uses all cores.

    Args:
        rows: most texts of a batch.
        tokens: most tokens of a batch, padding included.
    """
    order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    groups = [order[at : at + _GROUP] for at in range(0, len(order), _GROUP)]

    def work(group: list[int]) -> list[TokenBatch]:
        given = [texts[row] for row in group]
        parts = padded_batches(count_tokens(given), rows=rows, cells=tokens)
        return [
            TokenBatch([group[at] for at in part], tokenise([given[at] for at in part]))
            for part in parts
        ]

    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenise")
    try:
        waiting: deque[Future[list[TokenBatch]]] = deque()
        for group in groups:
            waiting.append(pool.submit(work, group))
            if len(waiting) > _AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def encode_batches(
    batches: Iterator[TokenBatch],
    forward: Callable[[dict[str, Any]], Tensor],
    device: torch.device,
    name: str,
) -> Tensor:
    """Encodes batches on `device` and returns the vectors of all texts in their order, on the CPU.

    The host waits for the device once, at the end: batches are copied from pinned memory, and vectors stay
    on the device until then.

    Args:
        forward: turns the inputs of a batch into vectors [b, E].
        name: the encoder's, for errors.

    Raises:
        EmbeddingError: the model failed.

    Shapes: -> [B, E] float32; [0, 0] without texts.
    """
    vectors, rows = [], []
    with torch.inference_mode():
        for batch in batches:
            try:
                vectors.append(forward(_moved(batch.features, device)).float())
            except RuntimeError as error:
                raise EmbeddingError(
                    f"{name} failed on {len(batch.rows)} texts: {error}; try a smaller batch_size or "
                    "max_tokens"
                ) from error
            rows += batch.rows
    if not rows:
        return torch.empty(0, 0)
    made = torch.cat(vectors).cpu()
    result = torch.empty_like(made)
    result[rows] = made
    return result


def _moved(features: Features, device: torch.device) -> dict[str, Any]:
    moved = {}
    for name, value in features.items():
        if isinstance(value, Tensor):
            pinned = value.pin_memory() if device.type == "cuda" else value
            value = pinned.to(device, non_blocking=True)
        moved[name] = value
    return moved
