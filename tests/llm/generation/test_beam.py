"""Decoding against slow loops over the library's own forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from seqloom.llm.generation.beam import SearchResult, beam_search
from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.encoder_decoder import EncoderDecoder
from seqloom.llm.generation.exact_scores import score_candidates, score_items
from seqloom.llm.generation.length_penalty import LengthPenalty
from seqloom.llm.generation.likelihood import BranchLikelihood, VocabularyLikelihood
from seqloom.llm.generation.prefix_tree import PAD, PrefixTree
from support.language_models import build_tiny_network

IDS = [
    (1, 2, 0), (1, 0), (1, 3, 4, 0), (2, 2, 2, 0), (2, 1, 0), (3, 0), (4, 5, 0), (4, 5, 6, 0),
    (4, 6, 0), (5, 1, 1, 1, 0), (6, 2, 0), (6, 2, 3, 0),
]  # fmt: skip


@pytest.fixture(scope="module")
def tree() -> PrefixTree:
    width = max(map(len, IDS))
    return PrefixTree.build(torch.tensor([[*row, *[PAD] * (width - len(row))] for row in IDS]))


@pytest.fixture(scope="module", params=[VocabularyLikelihood, BranchLikelihood])
def scoring(request: pytest.FixtureRequest) -> Any:
    """The kind of probability."""
    return request.param


def token_costs(
    model: EncoderDecoder | DecoderOnly,
    prompt: Any,
    row: tuple[int, ...],
    scoring: Callable[..., Any],
) -> Any:
    """Log-probability of each token of `row`, by one forward pass of the library over all tokens."""
    tokens = model.output_tokens[list(row)]
    network = model.network
    if network.config.is_encoder_decoder:
        start = torch.tensor([network.config.decoder_start_token_id])
        fed = torch.cat([start, tokens[:-1]])[None]
        logits = network(input_ids=prompt[None], decoder_input_ids=fed).logits[0]
    else:
        whole = torch.cat([prompt, tokens[:-1]])[None]
        logits = network(input_ids=whole).logits[0, len(prompt) - 1 :]
    logits = logits[:, model.output_tokens].double()
    if scoring is BranchLikelihood:
        for depth in range(len(row)):
            allowed = {other[depth] for other in IDS if other[:depth] == row[:depth]}
            barred = [token for token in range(logits.shape[1]) if token not in allowed]
            logits[depth, barred] = float("-inf")
    return logits.log_softmax(-1)[range(len(row)), list(row)]


@pytest.fixture(scope="module")
def truth(
    model: EncoderDecoder | DecoderOnly, prompts: tuple[torch.Tensor, torch.Tensor], scoring: Any
) -> torch.Tensor:
    """[3, N] by the slow loop."""
    with torch.inference_mode():
        rows = [
            [float(token_costs(model, t[m], row, scoring).sum()) for row in IDS]
            for t, m in zip(*prompts, strict=True)
        ]
    return torch.tensor(rows)


def search(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    scoring: Callable[..., Any],
    **options: Any,
) -> SearchResult:
    with torch.inference_mode():
        state = model.start(*prompts)
    return beam_search(state, tree, scoring(tree, state.head), **options)


def test_exact_scores_are_the_likelihoods(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    scoring: Any,
    truth: torch.Tensor,
) -> None:
    with torch.inference_mode():
        state = model.start(*prompts)
    likelihood = scoring(tree, state.head)
    scores = score_items(state, tree, likelihood)
    torch.testing.assert_close(scores, truth, rtol=1e-5, atol=1e-5)
    # In pieces, and again with the same state.
    pieces = score_items(state, tree, likelihood, leaves_at_once=5)
    torch.testing.assert_close(pieces, truth, rtol=1e-5, atol=1e-5)
    some = torch.tensor([9, 2, 12])
    got = score_items(state, tree, likelihood, items=some, leaves_at_once=2)
    torch.testing.assert_close(got, truth[:, some - 1], rtol=1e-5, atol=1e-5)
    if scoring is BranchLikelihood:
        torch.testing.assert_close(scores.exp().sum(1), torch.ones(3))


def test_teacher_forcing_gives_the_same_likelihoods(
    model: EncoderDecoder | DecoderOnly, prompts: tuple[torch.Tensor, torch.Tensor]
) -> None:
    tokens, mask = prompts
    for row in IDS:
        targets = torch.tensor([[*row, PAD, PAD]]).expand(3, -1)
        with torch.inference_mode():
            log_probs = model.logits(model.embed(tokens), mask, targets).log_softmax(-1)
            expected = [
                token_costs(model, prompt[real], row, VocabularyLikelihood)
                for prompt, real in zip(tokens, mask, strict=True)
            ]
        got = log_probs[:, : len(row)].gather(2, targets[:, : len(row), None])[..., 0]
        torch.testing.assert_close(got.double(), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_candidates_have_the_scores_that_they_have_among_all(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    scoring: Any,
    truth: torch.Tensor,
) -> None:
    # Given twice, out of order, none at all, and all of them.
    candidates = torch.tensor([[9, 2, 12, 0, 2], [3, 1, 4, 8, 7], [0, 0, 0, 0, 0]])
    with torch.inference_mode():
        state = model.start(*prompts)
    likelihood = scoring(tree, state.head)
    actual = score_candidates(state, tree, likelihood, candidates)
    expected = truth.gather(1, (candidates - 1).clamp(min=0))
    expected = expected.masked_fill(candidates == 0, float("-inf"))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    every = torch.arange(12, 0, -1).expand(3, -1)
    with torch.inference_mode():
        state = model.start(*prompts)
    actual = score_candidates(state, tree, likelihood, every)
    torch.testing.assert_close(actual, truth.flip(1), rtol=1e-5, atol=1e-5)


def test_as_many_beams_as_items_find_the_exact_order(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    scoring: Any,
    truth: torch.Tensor,
) -> None:
    actual = search(model, prompts, tree, scoring, num_beams=len(IDS))
    best = truth.sort(dim=1, descending=True)
    assert torch.equal(actual.items, best.indices + 1)
    torch.testing.assert_close(actual.scores, best.values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("num_beams", "top"), [(1, 1), (2, 2), (3, 3), (3, 2), (2, 5)])
def test_few_beams_find_what_a_slow_search_finds(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    scoring: Any,
    num_beams: int,
    top: int,
) -> None:
    actual = search(model, prompts, tree, scoring, num_beams=num_beams, top=top)
    for row, (tokens, mask) in enumerate(zip(*prompts, strict=True)):
        expected = slow_beam_search(model, tokens[mask], scoring, num_beams, top, set())
        assert actual.items[row].tolist() == [item for item, _ in expected]
        scores = torch.tensor([score for _, score in expected])
        torch.testing.assert_close(actual.scores[row], scores, rtol=1e-5, atol=1e-5)


def test_seen_items_never_come_out_and_take_no_place(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    scoring: Any,
) -> None:
    seen = torch.tensor([[1, 2, 3, 0, 1], [7, 8, 9, 6, 0], [12, 11, 10, 5, 4]])
    actual = search(model, prompts, tree, scoring, num_beams=3, seen=seen)
    for row, (tokens, mask) in enumerate(zip(*prompts, strict=True)):
        gone = set(seen[row].tolist())
        expected = slow_beam_search(model, tokens[mask], scoring, 3, 3, gone)
        assert actual.items[row].tolist() == [item for item, _ in expected]
        assert len(set(actual.items[row].tolist())) == 3
        assert not set(actual.items[row].tolist()) & gone


def test_when_fewer_items_are_left_than_beams_all_of_them_come_out(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    scoring: Any,
) -> None:
    seen = torch.arange(1, 11).expand(3, -1)  # 11 and 12 are left
    actual = search(model, prompts, tree, scoring, num_beams=5, seen=seen)
    assert all(sorted(row) == [0, 0, 0, 11, 12] for row in actual.items.tolist())
    assert torch.isinf(actual.scores[:, 2:]).all()


def test_a_batch_finds_what_its_rows_find(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    scoring: Any,
) -> None:
    # Rows with nearly everything seen end early and leave the batch.
    seen = torch.zeros(3, 11, dtype=torch.int64)
    seen[0], seen[2] = torch.arange(2, 13), torch.arange(1, 12)
    together = search(model, prompts, tree, scoring, num_beams=4, seen=seen)
    for row, (tokens, mask) in enumerate(zip(*prompts, strict=True)):
        one = (tokens[mask][None], mask[mask][None])
        alone = search(model, one, tree, scoring, num_beams=4, seen=seen[row : row + 1])
        assert torch.equal(alone.items[0], together.items[row])


def test_the_folders_generation_settings_change_nothing(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    scoring: Any,
) -> None:
    before = search(model, prompts, tree, scoring, num_beams=4)
    settings = model.network.generation_config
    old = (settings.do_sample, settings.repetition_penalty, settings.length_penalty)
    settings.do_sample, settings.repetition_penalty, settings.length_penalty = True, 9.0, -5.0
    try:
        after = search(model, prompts, tree, scoring, num_beams=4)
    finally:
        settings.do_sample, settings.repetition_penalty, settings.length_penalty = old
    assert torch.equal(before.items, after.items)


@pytest.mark.parametrize("power", [1.0, 0.5, 2.0])
def test_a_length_penalty_divides_by_the_number_of_tokens(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    tree: PrefixTree,
    truth: torch.Tensor,
    power: float,
    scoring: Any,
) -> None:
    lengths = torch.tensor([float(len(row)) for row in IDS])  # the end mark is one of them
    divided = truth / lengths**power
    penalty = LengthPenalty.build(tree, power)
    best = divided.sort(dim=1, descending=True)
    assert not torch.equal(best.indices, truth.sort(dim=1, descending=True).indices)
    for num_beams, top in ((12, 12), (12, 3), (12, 1)):
        options = {"num_beams": num_beams, "top": top, "penalty": penalty}
        actual = search(model, prompts, tree, scoring, **options)
        assert torch.equal(actual.items, best.indices[:, :top] + 1)
        torch.testing.assert_close(actual.scores, best.values[:, :top], rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        state = model.start(*prompts)
    likelihood = scoring(tree, state.head)
    some = torch.tensor([9, 2, 12])
    scores = score_items(state, tree, likelihood, items=some, leaves_at_once=2, penalty=penalty)
    torch.testing.assert_close(scores, divided[:, some - 1], rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        state = model.start(*prompts)
    candidates = some.expand(3, -1).contiguous()
    scores = score_candidates(state, tree, likelihood, candidates, penalty)
    torch.testing.assert_close(scores, divided[:, some - 1], rtol=1e-5, atol=1e-5)


def test_no_length_penalty_divides_by_nothing(tree: PrefixTree) -> None:
    assert LengthPenalty.build(tree, 0.0) is None


def test_the_penalised_scores_are_those_of_the_librarys_search(tree: PrefixTree) -> None:
    """transformers' `generate` over a vocabulary that holds nothing but output tokens."""
    network = build_tiny_network("t5", vocabulary=8)
    outputs = [1, 2, 3, 4, 5, 6, 7, 0]
    own = EncoderDecoder(network, torch.tensor(outputs)).eval()
    prompt = torch.tensor([[7, 2, 5]])
    penalty = LengthPenalty.build(tree, 1.0)
    mask = torch.ones_like(prompt, dtype=torch.bool)
    actual = search(
        own, (prompt, mask), tree, VocabularyLikelihood, num_beams=len(IDS), penalty=penalty
    )

    def follow(_row: Any, written: Any) -> list[Any]:
        before = tuple(outputs.index(token) for token in written[1:].tolist())
        size = len(before)
        after = {row[size] for row in IDS if row[:size] == before and len(row) > size}
        return sorted(outputs[number] for number in after) or [1]

    with torch.inference_mode():
        made = network.generate(
            prompt,
            num_beams=len(IDS),
            num_return_sequences=len(IDS),
            max_new_tokens=6,
            length_penalty=1.0,
            eos_token_id=1,
            prefix_allowed_tokens_fn=follow,
            output_scores=True,
            return_dict_in_generate=True,
        )
    rows = [[outputs.index(token) for token in row[1:].tolist()] for row in made.sequences]
    items = [IDS.index(tuple(row[: row.index(0) + 1])) + 1 for row in rows]
    assert actual.items[0].tolist() == items
    torch.testing.assert_close(actual.scores[0], made.sequences_scores, rtol=1e-4, atol=1e-4)


def slow_beam_search(
    model: EncoderDecoder | DecoderOnly,
    prompt: Any,
    scoring: Any,
    num_beams: int,
    top: Any,
    seen: set[Any],
) -> list[tuple[int, float]]:
    """Beams at places of choice compete for tokens; what follows without choice is added at once."""
    left = {row for number, row in enumerate(IDS, start=1) if number not in seen}

    def after(row: tuple[Any, ...]) -> set[Any]:
        return {
            other[len(row)] for other in IDS if len(other) > len(row) and other[: len(row)] == row
        }

    def cost(row: tuple[Any]) -> float:
        with torch.inference_mode():
            return float(token_costs(model, prompt, row, scoring).sum())

    def run(row: tuple[Any]) -> tuple[Any]:
        while len(after(row)) == 1:
            row = (*row, *after(row))
        return row

    def decided(row: Any) -> bool:  # without asking the model once more
        return row in IDS if scoring is VocabularyLikelihood else run(row) in IDS

    beams: list[tuple[int, ...]] = [()]
    closed: list[tuple[float, tuple[int, ...]]] = []
    while beams:
        chosen = [(*beam, token) for beam in beams for token in after(beam)]
        chosen = [row for row in chosen if any(other[: len(row)] == row for other in left)]
        closed += [(cost(row), run(row)) for row in chosen if decided(row)]
        rest = sorted(((cost(row), row) for row in chosen if not decided(row)), reverse=True)
        ends = [run(row) for _, row in rest[:num_beams]]
        closed += [(cost(row), row) for row in ends if row in IDS]
        beams = [row for row in ends if row not in IDS]
    best = sorted(closed, reverse=True)[:top]
    return [(IDS.index(row) + 1, score) for score, row in best] + [(0, float("-inf"))] * (
        top - len(best)
    )
