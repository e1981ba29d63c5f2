from __future__ import annotations

import random
from pathlib import Path

import pytest

from seqloom.core.errors import ArtefactError
from seqloom.llm.generation.tokenizers import load_tokenizer, train_tokenizer

TEXTS = ["Moisturizing hand cream", "hair brush and comb", "Crème brûlée soap", "手 クリーム"] * 3


def test_any_text_can_be_written() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    assert len(tokenizer) <= 400
    for text in ("hand cream", "日本語 ünïcode 🙂", "zzz\u0000"):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(tokens) == text
    assert tokenizer("HAND")["input_ids"] == tokenizer("hand")["input_ids"]


def test_the_order_of_texts_does_not_matter() -> None:
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    assert train_tokenizer(TEXTS, 350).get_vocab() == train_tokenizer(shuffled, 350).get_vocab()


def test_saved_and_loaded_it_gives_the_same_tokens(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 350)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded("hand cream crème")["input_ids"] == tokenizer("hand cream crème")["input_ids"]
    assert (loaded.eos_token_id, loaded.pad_token_id) == (1, 0)


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no tokenizer"):
        load_tokenizer(tmp_path)
