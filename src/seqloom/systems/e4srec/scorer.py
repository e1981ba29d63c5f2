"""Scorer of E4SRec: encodes the instruction once, histories by length, and scores all items at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.core.batching import few_lengths, split_padded
from seqloom.data.batches import padded_width
from seqloom.distributed.dtensors import is_sharded
from seqloom.nn.graphs import RecordedFunction, Recorder, build_recorder
from seqloom.nn.item_product import ItemProduct
from seqloom.systems.e4srec.model import E4SRecModel
from seqloom.systems.e4srec.reader import embed

# Small batches fit the cache of a CPU, and pad less.
_TOKENS_AT_ONCE = {"cpu": 512, "cuda": 65_536}
# Each row holds a copy of the instruction's keys and values in every layer: 3 MB in SmolLM2-135M.
_ROWS_AT_ONCE = {"cpu": 64, "cuda": 1024}
# Number of positions from which merging the adapter into the weights pays off.
_MANY_ITEMS = 256
# Most positions that a graph reads. More take a GPU longer than the host needs to start their kernels.
_RECORDED_POSITIONS = 8192


class E4SRecScorer:
    """Scores with E4SRec. Switches the system to evaluation mode; valid until it is trained further.

    On a CUDA device the language model reads small batches by recorded graphs. Their weights must stay where
    they are: a system that moves to another device needs a new scorer.
    """

    def __init__(
        self,
        system: E4SRecModel,
        ids: Tensor,
        candidates: Tensor,
        recorder: Recorder | None = None,
    ) -> None:
        """Builds a scorer.

        Args:
            recorder: what records the reading of histories; by default CUDA graphs on a CUDA device.

        Shapes: ids [N, d], inputs of histories; candidates [N, D'], which states are multiplied with.
        """
        self.num_items = len(candidates)
        self._system = system.eval()
        self.item_vectors = candidates
        self.score_queries = ItemProduct(candidates)
        self._reads = system.text is None or system.text.reads_states
        with torch.no_grad():
            self._inputs = system.inputs(candidates, ids)
            cached = self._reads and system.reader.causal
            self._prefix = system.reader.read_prefix() if cached else None
        self._lean = self._prefix is not None and system.reader.lean
        self._recorded: RecordedFunction | None = None
        if self._lean and not any(map(is_sharded, system.base.backbone.parameters())):
            recorder = recorder or build_recorder(candidates.device, strict=False)
            if recorder is not None:
                self._recorded = RecordedFunction(self._read_part, recorder)

    @torch.no_grad()
    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns the state after each history. Shapes: [B, L], [B] -> [B, D']."""
        kept = self._system.remembered
        if kept is None:
            return self._queries(items, lengths)
        return kept.recall(lambda: self._queries(items, lengths), items, lengths)

    def _queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        read = self._read(items, lengths) if self._reads else None
        if self._system.text is not None:
            return self._system.text.last_states(items, lengths, self.item_vectors, read)
        assert read is not None
        return read

    def _read(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns the language model's state after each history. Shapes: [B, L], [B] -> [B, D]."""
        out = torch.empty(len(items), self._system.base.width, device=items.device)
        with self._autocast(items.device):
            if self._recorded is not None and items.numel() <= _RECORDED_POSITIONS:
                self._read_recorded(self._recorded, items, lengths, out)
            elif self._lean and int(lengths.sum()) >= _MANY_ITEMS:
                self._read_many(items, lengths, out)
            else:
                for rows in _parts(lengths):
                    width = max(1, int(lengths[rows].max()))
                    states = self._system.read_last(
                        items[rows, :width], lengths[rows], self._inputs, self._prefix
                    )
                    out[rows] = states.float()
        if self._prefix is not None and not self._system.reader.respond:
            out[lengths == 0] = self._prefix.state
        return out

    def _read_many(self, items: Tensor, lengths: Tensor, out: Tensor) -> None:
        """Writes states to `out` [B, D], layer by layer for all histories."""
        assert self._prefix is not None
        reader = self._system.reader
        numbers = list(_parts(lengths))
        parts = []
        for rows in numbers:
            width = max(1, int(lengths[rows].max()))
            parts.append(reader.lay_out(embed(items[rows, :width], self._inputs), lengths[rows]))
        for rows, states in zip(numbers, reader.last_states(parts, self._prefix), strict=True):
            out[rows] = states.float()

    def _read_recorded(
        self, read: RecordedFunction, items: Tensor, lengths: Tensor, out: Tensor
    ) -> None:
        """Writes states to `out` [B, D], by graphs of few shapes."""
        for rows in _parts(lengths):
            longest, count = max(1, int(lengths[rows].max())), len(rows)
            width = padded_width(longest, max(longest, self._system.max_len))
            more = few_lengths(count) - count
            some = F.pad(items[rows, :longest], (0, width - longest, 0, more))
            out[rows] = read(some, F.pad(lengths[rows], (0, more)))[:count]

    def _read_part(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns the state after each history, of one part. Shapes: [B, L], [B] -> [B, D]."""
        assert self._prefix is not None
        reader = self._system.reader
        part = reader.lay_out(embed(items, self._inputs), lengths)
        return reader.last_states([part], self._prefix)[0].float()

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue. Shapes: [B, L], [B] -> [B, N]."""
        return self.score_queries(self.queries(items, lengths))

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        if device.type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", torch.bfloat16)


def _parts(lengths: Tensor) -> Iterator[Tensor]:
    """Yields row numbers of histories of similar length that are encoded together."""
    kind = lengths.device.type if lengths.device.type in _TOKENS_AT_ONCE else "cpu"
    for rows in torch.argsort(lengths, stable=True).split(_ROWS_AT_ONCE[kind]):
        yield from split_padded(rows, lengths, _TOKENS_AT_ONCE[kind])
