from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.llm.generation.lexicon import Lexicon, WordAutomaton, collect_words, split_words
from seqloom.llm.generation.text_model import END
from support.language_models import build_tiny_tokenizer


def lexicon_of(pieces: list[tuple[int, ...]]) -> Lexicon:
    """Words written as their output numbers, without a tokenizer."""
    largest = max(number for row in pieces for number in row)
    names = tuple("-".join(map(str, row)) for row in pieces)
    return Lexicon(names, tuple(pieces), torch.arange(largest + 1))


PIECES = [(1,), (2,), (2, 7), (3, 8, 9), (3, 8, 7), (4, 9)]


def test_words_are_letters_of_any_script() -> None:
    assert split_words("L'Oréal 3-in-1, 50ml!") == ["l", "oréal", "in", "ml"]
    assert split_words("हिन्दी और 漢字") == ["हिन्दी", "और", "漢字"]
    assert split_words("... !!! 123 \x00") == []
    assert collect_words(["b a bb", "BB cc", "cc"], min_count=2) == ["bb", "cc"]


def test_the_words_do_not_depend_on_the_order_of_texts() -> None:
    assert collect_words(["x soap red", "blue soap"]) == collect_words(["blue soap", "x soap red"])


def test_words_the_tokenizer_does_not_know_are_left_out() -> None:
    lexicon = Lexicon.build(["blue", "nonsense", "soap"], build_tiny_tokenizer())
    assert lexicon.words == ("blue", "soap")
    assert lexicon.text(lexicon.numbers("soap blue")) == "soap blue"
    assert lexicon.numbers("soap nonsense") is None
    with pytest.raises(ConfigError, match="none of 1 words"):
        Lexicon.build(["nonsense"], build_tiny_tokenizer())


def test_other_words_can_be_written_with_given_tokens() -> None:
    first = Lexicon.build(["blue", "soap"], build_tiny_tokenizer())
    second = Lexicon.build(
        ["oil", "soap"], build_tiny_tokenizer(), output_tokens=first.output_tokens
    )
    assert second.words == ("soap",)
    assert torch.equal(second.output_tokens, first.output_tokens)


def texts_of(automaton: WordAutomaton, lengths: int) -> set[tuple[Any, ...]]:
    """Every sequence that the automaton lets through, by trying all."""
    actual: set[tuple[int, ...]] = set()
    open_rows: list[tuple[tuple[int, ...], int]] = [((), 0)]
    while open_rows:
        row, node = open_rows.pop()
        if automaton.word_end[node]:
            actual.add(row)
        if len(row) == lengths:
            continue
        for token in torch.nonzero(automaton.allowed(torch.tensor([node]), lengths - len(row))[0]):
            after = automaton.advance(torch.tensor([node]), token)
            open_rows.append(((*row, int(token)), int(after)))
    return actual


def test_only_whole_words_come_through_and_all_that_fit() -> None:
    automaton = WordAutomaton.build(lexicon_of(PIECES))
    every: set[tuple[int, ...]] = set()
    rows: set[tuple[int, ...]] = {()}
    for _ in range(4):
        rows = {(*row, *word) for row in rows for word in PIECES}
        every |= {row for row in rows if len(row) <= 4}
    assert texts_of(automaton, 4) == every


def test_a_word_that_cannot_end_in_time_is_not_started() -> None:
    automaton = WordAutomaton.build(lexicon_of(PIECES))
    allowed = automaton.allowed(torch.tensor([0]), 2)[0]
    assert torch.nonzero(allowed).flatten().tolist() == [1, 2, 4]
    assert not allowed[END]


def test_words_of_a_byte_level_tokenizer_read_back_as_they_were_written() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = ["moisturizing hand cream", "hair brush and comb", "crème brûlée soap", "手 クリーム"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    lexicon = Lexicon.build(collect_words(texts), fast, most_pieces=12)
    assert {"hand", "crème", "soap"} <= set(lexicon.words)
    for text in ("hand soap", "crème brush hair"):
        numbers = lexicon.numbers(text)
        assert lexicon.text([*numbers, END]) == text
        tokens = lexicon.output_tokens[numbers]
        assert fast.decode(tokens) == f" {text}"
        assert fast(f" {text}", add_special_tokens=False)["input_ids"] == tokens.tolist()
