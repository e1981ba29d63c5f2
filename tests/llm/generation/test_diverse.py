"""Diverse generation against a loop over single prompts, groups and tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.diverse import Lengths, generate_words
from seqloom.llm.generation.encoder_decoder import EncoderDecoder
from seqloom.llm.generation.lexicon import Lexicon, WordAutomaton
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import END

PIECES = ((1,), (2,), (3, 5), (3, 6), (4,))
LEXICON = Lexicon(("one", "two", "threefive", "threesix", "four"), PIECES, torch.arange(7))
LENGTHS = Lengths(2, 4)


@pytest.fixture(scope="module")
def automaton() -> WordAutomaton:
    return WordAutomaton.build(LEXICON)


def next_log_probs(model: EncoderDecoder | DecoderOnly, prompt: Any, row: tuple[Any, ...]) -> Any:
    """Of every output token after `row`, by the library's own forward pass."""
    tokens = model.output_tokens[list(row)]
    network = model.network
    with torch.inference_mode():
        if network.config.is_encoder_decoder:
            fed = torch.cat([torch.tensor([network.config.decoder_start_token_id]), tokens])
            logits = network(input_ids=prompt[None], decoder_input_ids=fed[None]).logits[0, -1]
        else:
            logits = network(input_ids=torch.cat([prompt, tokens])[None]).logits[0, -1]
    return logits[model.output_tokens].double().log_softmax(-1)


def whole_words(row: tuple[Any, ...]) -> bool:
    """Whether `row` is made of the lexicon's words, no first token twice."""
    firsts = []
    rest = list(row)
    while rest:
        word = next((w for w in PIECES if tuple(rest[: len(w)]) == w), None)
        if word is None or word[0] in firsts:
            return False
        firsts.append(word[0])
        rest = rest[len(word) :]
    return True


EVERY = set()
_rows: set[tuple[int, ...]] = {()}
for _ in range(4):
    _rows = {(*row, *word) for row in _rows for word in PIECES}
    EVERY |= {row for row in _rows if len(row) <= LENGTHS.most and whole_words(row)}


def slow_groups(
    model: EncoderDecoder | DecoderOnly, prompt: Any, groups: int, penalty: float
) -> list[tuple[Any, ...]]:
    rows: list[tuple[int, ...]] = [()] * groups
    done = [False] * groups
    for _ in range(LENGTHS.most + 1):
        times = dict.fromkeys(range(7), 0)
        for group in range(groups):
            if done[group]:
                continue
            row = rows[group]
            allowed = {other[len(row)] for other in EVERY
                       if len(other) > len(row) and other[: len(row)] == row}  # fmt: skip
            if whole_words(row) and row and (len(row) >= LENGTHS.least or not allowed):
                allowed.add(END)
            log_probs = next_log_probs(model, prompt, row)
            token = max(allowed, key=lambda t: float(log_probs[t]) - penalty * times[t])
            times[token] += 1
            done[group] = token == END
            rows[group] = row if done[group] else (*row, token)
    return rows


@pytest.mark.parametrize(("groups", "penalty"), [(1, 0.0), (4, 1.0), (4, 3.0)])
def test_the_groups_are_those_of_the_slow_loop(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    automaton: WordAutomaton,
    groups: int,
    penalty: float,
) -> None:
    texts = generate_words(
        model.start(*prompts), automaton, LENGTHS, groups=groups, penalty=penalty
    )
    assert texts.shape == (3, groups, LENGTHS.most + 1)
    for batch_row, (tokens, mask) in enumerate(zip(*prompts)):  # noqa: B905
        expected = slow_groups(model, tokens[mask], groups, penalty)
        for group, row in enumerate(expected):
            expected = [*row, END] + [PAD] * (LENGTHS.most - len(row))
            assert texts[batch_row, group].tolist() == expected


def test_a_high_penalty_makes_the_groups_differ(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    automaton: WordAutomaton,
) -> None:
    def distinct(penalty: float) -> list[Any]:
        texts = generate_words(model.start(*prompts), automaton, LENGTHS, groups=3, penalty=penalty)
        return [len({tuple(row) for row in rows}) for rows in texts.tolist()]

    assert distinct(0.0) == [1, 1, 1]
    assert distinct(50.0) == [3, 3, 3]


def test_preferred_tokens_alone_are_used_as_long_as_they_allow_a_word(
    model: EncoderDecoder | DecoderOnly,
    prompts: tuple[torch.Tensor, torch.Tensor],
    automaton: WordAutomaton,
) -> None:
    wanted = torch.zeros(3, 7, dtype=torch.bool)
    wanted[0, [1, 2]] = True
    texts = generate_words(model.start(*prompts), automaton, Lengths(2, 2), preferred_tokens=wanted)
    assert sorted(texts[0, 0, :2].tolist()) == [1, 2]
    # Without preferred tokens any token may come, and it still is a text of two tokens.
    assert all(whole_words(row[0][:2]) for row in texts.tolist())


def test_a_text_ends_early_when_no_word_is_left(
    model: EncoderDecoder | DecoderOnly, prompts: tuple[torch.Tensor, torch.Tensor]
) -> None:
    single = WordAutomaton.build(Lexicon(("one",), ((1,),), torch.arange(7)))
    texts = generate_words(model.start(*prompts), single, Lengths(3, 5))
    assert texts[:, 0].tolist() == [[1, END, PAD, PAD, PAD, PAD]] * 3
