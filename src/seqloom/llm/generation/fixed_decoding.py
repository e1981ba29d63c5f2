"""Decodes few prompts in fixed memory, so that the passes of the language model can be recorded.

A pass over a few tokens is hundreds of short kernels, which take a GPU less time than the host needs to start
them. Here keys and values lie in tensors of a fixed size. A pass writes those of its tokens to given places
and attends to all places behind a mask, so its shapes are the padded numbers of prompts and tokens alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.core.batching import few_lengths
from seqloom.core.errors import SeqloomError
from seqloom.distributed.dtensors import is_sharded
from seqloom.llm.generation.decoder_only import DecoderOnly, last_state
from seqloom.llm.generation.text_model import Ancestors, DecodingState, TextModel
from seqloom.nn.graphs import RecordedFunction, Recorder

FAMILY = ("llama",)
"""Supported values of `model_type`: their layers use nothing of a cache but `update`."""
_MOST_PROMPTS, _MOST_PLACES = 16, 1024
_PROMPT_STEP, _PLACES_STEP = 32, 256
_MOST_MEMORIES, _MOST_RECORDINGS = 8, 24


class RoomError(SeqloomError):
    """A search reads more tokens than the memory has places; search again without it."""


class FixedDecoder:
    """Decodes few prompts at once with a model whose weights stay where they are; one search at a time."""

    def __init__(self, model: DecoderOnly, recorder: Recorder) -> None:
        self._model, self._recorder = model, recorder
        self._memories: dict[tuple[int, int, bool], _Memory] = {}
        self._busy = threading.Lock()

    @staticmethod
    def supports(model: TextModel) -> bool:
        """Returns whether the model is of a supported family and whole in this process."""
        return (
            isinstance(model, DecoderOnly)
            and model.network.config.model_type in FAMILY
            and not any(map(is_sharded, model.parameters()))
        )

    @contextmanager
    def start(self, tokens: Tensor, mask: Tensor, room: int) -> Iterator[DecodingState | None]:
        """Encodes prompts for a search within the block; `room` is the number of tokens it may append.

        Yields None where the prompts are too many or too long, or another thread searches.

        Shapes: tokens, mask [B, P].
        """
        if not self._busy.acquire(blocking=False):
            yield None
            return
        try:
            memory = self._memory(tokens.shape[0], tokens.shape[1], room)
            yield None if memory is None else _FixedState(self._model, memory, tokens, mask)
        finally:
            self._busy.release()

    def _memory(self, count: int, longest: int, room: int) -> _Memory | None:
        prompts = 1 << (count - 1).bit_length()
        places = _round_up(_round_up(longest, _PROMPT_STEP) + room + 1, _PLACES_STEP)
        key = (prompts, places, torch.is_autocast_enabled(self._model.output_tokens.device.type))
        if prompts > _MOST_PROMPTS or places > _MOST_PLACES:
            return None
        if key not in self._memories:
            if len(self._memories) == _MOST_MEMORIES:
                return None
            self._memories[key] = _Memory(self._model, self._recorder, prompts, places)
        return self._memories[key]


class _Memory:
    """Keys and values of all layers, and the recorded passes that read and write them."""

    def __init__(
        self, model: DecoderOnly, recorder: Recorder, prompts: int, num_places: int
    ) -> None:
        self.prompts, self.num_places = prompts, num_places
        self._model, self._cache = model, _FixedCache(num_places)
        self.read = RecordedFunction(self._read, recorder, _MOST_RECORDINGS)

    def _read(self, tokens: Tensor, positions: Tensor, visible: Tensor, places: Tensor) -> Tensor:
        """Runs the model on tokens whose keys and values go to `places`; returns their states.

        Shapes: tokens, positions [B, M], visible [B, M, T] bool, places [M] -> [B, M, D].
        """
        self._cache.places = places
        hidden: Tensor = self._model.body(
            inputs_embeds=self._model.embed(tokens),
            attention_mask=visible[:, None],
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden


class _FixedCache:
    """What the layers of transformers ask of a cache, over tensors that stay where they are."""

    def __init__(self, num_places: int) -> None:
        self.places = torch.empty(0)
        self._num_places = num_places
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Writes keys and values to `places`; returns those of all places.

        Shapes: [B, G, M, d] -> [B, G, T, d].
        """
        if layer not in self._layers:
            batch, groups, _, size = keys.shape
            # Zeros: what is masked still takes part in products, with a weight of 0.
            with torch.inference_mode(False):
                self._layers[layer] = (
                    keys.new_zeros(batch, groups, self._num_places, size),
                    values.new_zeros(batch, groups, self._num_places, values.shape[3]),
                )
        all_keys, all_values = self._layers[layer]
        all_keys.index_copy_(2, self.places, keys)
        all_values.index_copy_(2, self.places, values)
        return all_keys, all_values


class _FixedState:
    """Decoding state in a `_Memory` (`DecodingState`): prompts first, then the tokens after them.

    The last place takes the keys of tokens that pad a pass. Tokens and prompts that pad see the first place.
    """

    def __init__(self, model: DecoderOnly, memory: _Memory, tokens: Tensor, mask: Tensor) -> None:
        self._model, self._memory = model, memory
        self.head = model.head()
        count, longest = tokens.shape
        self._width = _round_up(longest, _PROMPT_STEP)
        self._rows = torch.arange(count, device=tokens.device)
        self._lengths = mask.sum(1)
        self._prompt = F.pad(mask, (0, memory.num_places - longest))  # [B, T]
        self._ancestors = Ancestors(0, tokens.device)
        order = torch.arange(self._width, device=tokens.device)
        causal = torch.ones(self._width, self._width, dtype=torch.bool, device=tokens.device).tril()
        visible = F.pad(causal, (0, memory.num_places - self._width)).expand(count, -1, -1)
        padded = F.pad(tokens, (0, self._width - longest))
        hidden = self._read(padded, order.expand(count, -1), visible, order)
        self.first = last_state(hidden, mask)

    def rewind(self) -> None:
        """See `DecodingState`."""
        self._ancestors = Ancestors(0, self._rows.device)

    def keep(self, rows: Tensor) -> None:
        """See `DecodingState`; the memory keeps the other prompts, which are no longer read."""
        self._rows, self._lengths = self._rows[rows], self._lengths[rows]
        self._prompt, self.first = self._prompt[rows], self.first[rows]
        self._ancestors.keep(rows)

    def step(self, tokens: Tensor, parents: Tensor, runs: Tensor) -> Tensor:
        """Appends tokens, see `DecodingState`. Shapes: [B, M], [B, M], [B, M] -> [B, M, D].

        Raises:
            RoomError: the memory has no places for them.
        """
        batch, count = tokens.shape
        first, last = self._width + self._ancestors.count, self._memory.num_places - 1
        if first + count > last:
            raise RoomError(f"{first + count} places are needed, and there are {last}")
        own, depths = self._ancestors.grow(parents, runs)
        slots = own.shape[2]
        visible = self._prompt[:, None].repeat(1, count, 1)  # [B, M, T]
        visible[:, :, self._width : self._width + slots] = own
        more = few_lengths(count) - count
        visible = F.pad(visible, (0, 0, 0, more))
        visible[:, count:, 0] = True
        places = torch.arange(first, first + count, device=tokens.device)
        hidden = self._read(
            F.pad(self._model.output_tokens[tokens], (0, more)),
            F.pad((self._lengths[:, None] + depths).expand(batch, -1), (0, more)),
            visible,
            F.pad(places, (0, more), value=last),
        )
        return hidden[:, :count]

    def _read(self, tokens: Tensor, positions: Tensor, visible: Tensor, places: Tensor) -> Tensor:
        """Reads with the rows that the memory has. Shapes: as `_Memory._read`."""
        count = self._memory.prompts
        everywhere = visible.new_zeros(count, *visible.shape[1:])
        everywhere[:, :, 0] = True
        everywhere[self._rows] = visible
        hidden = self._memory.read(
            tokens.new_zeros(count, tokens.shape[1]).index_copy(0, self._rows, tokens),
            positions.new_zeros(count, tokens.shape[1]).index_copy(0, self._rows, positions),
            everywhere,
            places,
        )
        return hidden[self._rows]


def _round_up(count: int, step: int) -> int:
    return -(-count // step) * step
