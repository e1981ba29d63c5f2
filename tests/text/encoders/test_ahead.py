"""Encoding as on a GPU, with the models of a CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqloom.core.errors import EmbeddingError
from seqloom.text.encoders.ahead import (
    TokenBatch,
    batches_ahead,
    encode_batches,
    tokens_for,
)
from seqloom.text.encoders.factory import build_encoder, rebuild_encoder
from seqloom.text.encoders.hf_lm import LanguageModelEncoder
from seqloom.text.encoders.sentence import SentenceEncoder
from seqloom.text.options import EncoderOptions, resolve_dtype
from support.language_models import save_tiny_llama, save_tiny_sentence_model

CPU = torch.device("cpu")
WORDS = ("red", "blue", "soap", "brush", "a", "towel", "small", "large", "comb")


def make_texts(count: int = 600) -> list[str]:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 30, (count,), generator=draw).tolist()
    return [
        " ".join(WORDS[int(i)] for i in torch.randint(len(WORDS), (n,), generator=draw))
        for n in lengths
    ]


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sentence_model(tmp_path_factory.mktemp("sentence"))


def count(group: list[str]) -> list[int]:
    return [len(text.split()) for text in group]


def tokenise(group: list[str]) -> dict[str, Any]:
    width = max(count(group))
    rows = [[len(word) for word in text.split()] for text in group]
    padded = [row + [0] * (width - len(row)) for row in rows]
    return {"ids": torch.tensor(padded), "texts": group}


def test_every_text_is_in_one_batch_within_the_limits() -> None:
    texts = make_texts()
    batches = list(batches_ahead(texts, count, tokenise, rows=50, tokens=256))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(texts)))
    for batch in batches:
        ids = batch.features["ids"]
        assert batch.features["texts"] == [texts[row] for row in batch.rows]
        assert len(batch.rows) == len(ids) <= 50
        assert ids.numel() <= 256
    real = sum(count(texts))
    padded = sum(batch.features["ids"].numel() for batch in batches)
    assert padded < 1.2 * real


def test_the_next_texts_are_tokenised_while_the_first_wait() -> None:
    texts = make_texts(2000)
    calls = []
    more = threading.Event()

    def noted(group: list[str]) -> list[int]:
        calls.append(threading.current_thread().name)
        if len(calls) == 4:
            more.set()
        return count(group)

    batches = batches_ahead(texts, noted, tokenise, rows=64, tokens=4096)
    next(batches)
    assert more.wait(10), "nothing was tokenised ahead"
    assert all(name.startswith("tokenise") for name in calls)
    batches.close()  # type: ignore[attr-defined]


def test_vectors_come_in_the_order_of_the_texts() -> None:
    texts = make_texts()
    batches = batches_ahead(texts, count, tokenise, rows=50, tokens=256)

    def forward(features: dict[str, Any]) -> Tensor:
        ids = features["ids"]
        return torch.stack([ids.sum(1), (ids > 0).sum(1)], 1)

    vectors = encode_batches(batches, forward, CPU, "numbers")
    letters = [float(sum(map(len, text.split()))) for text in texts]
    assert vectors.tolist() == [[a, float(b)] for a, b in zip(letters, count(texts), strict=True)]
    assert vectors.dtype == torch.float32


def test_no_texts_give_no_vectors_and_errors_of_the_tokenizer_come_through() -> None:
    empty = batches_ahead([], count, tokenise, rows=4, tokens=64)
    assert encode_batches(empty, lambda _: torch.ones(1, 1), CPU, "x").shape == (
        0,
        0,
    )

    def broken(group: list[str]) -> list[int]:
        raise ValueError("no such token")

    with pytest.raises(ValueError, match="no such token"):
        list(batches_ahead(["a"], broken, tokenise, rows=4, tokens=64))


def test_a_model_that_fails_is_an_error_of_the_encoder() -> None:
    def fail(features: dict[str, Any]) -> Tensor:
        raise RuntimeError("out of memory")

    def batches() -> Iterator[TokenBatch]:
        yield TokenBatch([0, 1], {})

    with pytest.raises(EmbeddingError, match="model x failed on 2 texts: out of memory"):
        encode_batches(batches(), fail, CPU, "model x")


def test_wide_models_take_fewer_tokens_at_once() -> None:
    assert [tokens_for(width) for width in (384, 1024, 4096, 1 << 20)] == [
        65536,
        65536,
        16384,
        1024,
    ]


def test_a_sentence_model_gives_the_vectors_of_its_library(sentence_folder: Path) -> None:
    texts = make_texts()
    usual = SentenceEncoder("tiny", sentence_folder, device="cpu", max_tokens=20)
    ahead = SentenceEncoder("tiny", sentence_folder, device="cpu", max_tokens=20)
    ahead.ahead = True
    torch.testing.assert_close(ahead.encode(texts), usual.encode(texts), rtol=1e-4, atol=1e-5)
    assert ahead.truncated == usual.truncated > 0


def test_bfloat16_keeps_the_vectors_to_a_hundredth(sentence_folder: Path) -> None:
    texts = make_texts(100)
    exact = SentenceEncoder("tiny", sentence_folder, device="cpu").encode(texts)
    half = SentenceEncoder("tiny", sentence_folder, device="cpu", dtype="bfloat16")
    error = (half.encode(texts) - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(error.max()) < 1e-2
    assert half.provenance()["dtype"] == "bfloat16"


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
def test_a_language_model_gives_the_vectors_of_the_cpus_way(tmp_path: Path, pooling: Any) -> None:
    folder = save_tiny_llama(tmp_path / "llama")
    texts = make_texts()
    usual = LanguageModelEncoder("tiny", folder, pooling=pooling, device="cpu", max_tokens=20)
    ahead = LanguageModelEncoder("tiny", folder, pooling=pooling, device="cpu", max_tokens=20)
    ahead.ahead = True
    torch.testing.assert_close(ahead.encode(texts), usual.encode(texts), rtol=1e-4, atol=1e-5)
    assert ahead.truncated == usual.truncated


def test_the_number_format_follows_the_device_unless_it_is_given() -> None:
    assert resolve_dtype("auto", CPU) == "float32"
    assert resolve_dtype("auto", torch.device("cuda")) == "bfloat16"
    assert resolve_dtype("float32", torch.device("cuda")) == "float32"


def test_an_encoder_is_rebuilt_in_the_number_format_of_its_vectors(sentence_folder: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        encoder = build_encoder(
            EncoderOptions(encoder=str(sentence_folder), device="cpu", dtype=dtype)
        )
        again: Any = rebuild_encoder(encoder.provenance())
        assert again.dtype == dtype
