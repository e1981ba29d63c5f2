"""Decoding in fixed memory, beside the decoding whose cache grows; recorded by a recorder for a CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seqloom.llm.generation import fixed_decoding
from seqloom.llm.generation.beam import SearchResult, beam_search
from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.encoder_decoder import EncoderDecoder
from seqloom.llm.generation.fixed_decoding import FixedDecoder, RoomError
from seqloom.llm.generation.likelihood import VocabularyLikelihood
from seqloom.llm.generation.prefix_tree import PAD, PrefixTree
from support.language_models import build_tiny_network
from support.recorders import SameTensors

OUTPUTS = torch.tensor([1, 5, 3, 9, 4, 12, 20])
IDS = [
    (1, 2, 0), (1, 0), (1, 3, 4, 0), (2, 2, 2, 0), (2, 1, 0), (3, 0), (4, 5, 0), (4, 5, 6, 0),
    (4, 6, 0), (5, 1, 1, 1, 0), (6, 2, 0), (6, 2, 3, 0),
]  # fmt: skip
ROOM = 40


@pytest.fixture(scope="module")
def model() -> DecoderOnly:
    return DecoderOnly(build_tiny_network("llama"), OUTPUTS).eval()


@pytest.fixture(scope="module")
def tree() -> PrefixTree:
    width = max(map(len, IDS))
    return PrefixTree.build(torch.tensor([[*row, *[PAD] * (width - len(row))] for row in IDS]))


def prompts(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Prompts of unequal length, padded on the right."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 8, (count,), generator=draw)
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return torch.randint(3, 30, mask.shape, generator=draw) * mask, mask


def search(state: Any, tree: PrefixTree) -> SearchResult:
    likelihood = VocabularyLikelihood(tree, state.head)
    return beam_search(state, tree, likelihood, num_beams=4, top=5)


def find(decoder: FixedDecoder, tree: PrefixTree, tokens: Tensor, mask: Tensor) -> SearchResult:
    with torch.inference_mode(), decoder.start(tokens, mask, ROOM) as state:
        assert state is not None
        return search(state, tree)


def test_recorded_searches_have_the_bits_of_unrecorded_ones_in_the_same_memory(
    model: DecoderOnly, tree: PrefixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = SameTensors()
    recorded = FixedDecoder(model, recorder)
    single = FixedDecoder(model, SameTensors())
    for seed, count in enumerate((1, 3, 4, 1, 3, 2, 4, 1, 3)):
        tokens, mask = prompts(count, seed)
        actual = find(recorded, tree, tokens, mask)
        with monkeypatch.context() as patch:
            patch.setattr(fixed_decoding, "_MOST_RECORDINGS", 0)
            expected = find(single, tree, tokens, mask)
        assert torch.equal(actual.items, expected.items)
        assert torch.equal(actual.scores, expected.scores)
        with torch.inference_mode():
            growing = search(model.start(tokens, mask), tree)
        assert torch.equal(actual.items, growing.items)
        torch.testing.assert_close(actual.scores, growing.scores, rtol=1e-4, atol=1e-4)
    assert recorder.recorded > 2
    assert recorder.replayed > recorder.recorded


def test_what_is_left_of_an_earlier_search_is_not_read(
    model: DecoderOnly, tree: PrefixTree
) -> None:
    tokens, mask = prompts(3, 0)
    decoder = FixedDecoder(model, SameTensors())
    first = find(decoder, tree, tokens, mask)
    (memory,) = decoder._memories.values()
    for keys, values in memory._cache._layers.values():
        keys.fill_(1e4)
        values.fill_(-1e4)
    again = find(decoder, tree, tokens, mask)
    assert torch.equal(first.items, again.items)
    assert torch.equal(first.scores, again.scores)


def test_a_state_can_be_rewound_and_shrunk(model: DecoderOnly) -> None:
    tokens, mask = prompts(3, 1)
    root = torch.full((3, 2), -1)
    runs = torch.tensor([[0, 1]]).expand(3, -1)
    numbers = torch.tensor([[1, 2], [3, 4], [5, 6]])
    with torch.inference_mode(), FixedDecoder(model, SameTensors()).start(tokens, mask, 9) as state:
        assert state is not None
        other = model.start(tokens, mask)
        for each in (state, other):
            each.step(numbers, root, runs)
            each.rewind()
        torch.testing.assert_close(
            state.step(numbers, root, runs), other.step(numbers, root, runs), rtol=1e-4, atol=1e-4
        )
        rows = torch.tensor([2, 0])
        for each in (state, other):
            each.keep(rows)
        after = torch.tensor([[1], [0]])
        actual = state.step(numbers[rows, :1], after, runs[:2, :1])
        expected = other.step(numbers[rows, :1], after, runs[:2, :1])
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(state.first, other.first, rtol=1e-4, atol=1e-4)


def test_memory_that_is_full_or_busy_is_not_used(model: DecoderOnly, tree: PrefixTree) -> None:
    decoder = FixedDecoder(model, SameTensors())
    tokens, mask = prompts(2, 2)
    with torch.inference_mode(), decoder.start(tokens, mask, 3) as state:
        assert state is not None
        many = torch.zeros(2, 300, dtype=torch.int64)
        with pytest.raises(RoomError, match="332 places are needed, and there are 255"):
            state.step(many, many - 1, many)
        with decoder.start(tokens, mask, 3) as second:
            assert second is None
    with decoder.start(*prompts(17, 0), ROOM) as state:
        assert state is None
    with decoder.start(tokens, mask, 1000) as state:
        assert state is None
    find(decoder, tree, tokens, mask)


def test_only_whole_llamas_are_supported(model: DecoderOnly) -> None:
    assert FixedDecoder.supports(model)
    assert not FixedDecoder.supports(EncoderDecoder(build_tiny_network("t5"), OUTPUTS))
