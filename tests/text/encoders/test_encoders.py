from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import AssetError, ConfigError, EmbeddingError
from seqloom.hub.model_folders import model_folder
from seqloom.text.encoders import build_encoder, check_vectors
from seqloom.text.encoders.base import TextEncoder, text_batches
from seqloom.text.encoders.hashing import HashEncoder, word_cell
from seqloom.text.encoders.hf_lm import LanguageModelEncoder, pool
from seqloom.text.options import EncoderOptions, Pooling

TEXTS = [
    "a red soap",
    "blue",
    "An eye shadow palette of fifteen colours, for parties and for every day",
    "a red soap, large",
    "x",
]


@pytest.fixture(scope="session")
def minilm() -> Path:
    try:
        return model_folder("all-minilm-l6-v2")
    except AssetError as error:
        pytest.skip(f"the real MiniLM cannot be had here: {error}")


def build(**options: Any) -> TextEncoder:
    return build_encoder(EncoderOptions.build(options))


def test_hashed_words_can_be_computed_by_hand() -> None:
    encoder = HashEncoder(64)
    expected = torch.zeros(64)
    for word in ("red", "soap", "red"):
        expected[word_cell(word, 64)] += 1
    vectors = encoder.encode(["Red soap, RED!", "!!"])
    assert torch.allclose(vectors[0], expected / expected.norm())
    assert vectors[1].sum() == 1


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.tensor([[1.0], [torch.nan]]), "NaN.*'b'"),
        (torch.tensor([[1.0], [torch.inf]]), "infinity.*'b'"),
        (torch.tensor([[1.0], [0.0]]), "all-zero.*'b'"),
        (torch.ones(1, 4), "shape"),
        (torch.ones(2), "shape"),
        (torch.ones(2, 0), "shape"),
        (torch.ones(2, 3), "width 3"),
    ],
)
def test_what_is_no_embedding_is_refused_with_the_texts_id(
    vectors: torch.Tensor, message: str
) -> None:
    with pytest.raises(EmbeddingError, match=message):
        check_vectors(vectors, ["a", "b"], width=1)


def test_batches_of_long_texts_hold_fewer() -> None:
    assert text_batches([1, 512, 1, 7, 512], 2) == [[1, 4], [3, 0], [2]]
    assert text_batches([1, 513, 1, 7, 513], 2) == [[1], [4], [3, 0], [2]]
    assert text_batches([8192] + [1024] * 9, 64) == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
def test_pooling_looks_at_real_tokens_only(pooling: Pooling) -> None:
    hidden = torch.tensor([[[1.0], [3.0], [9.0]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    expected = {"mean": [2.0, 4.0], "last": [3.0, 6.0], "cls": [1.0, 2.0]}[pooling]
    assert pool(hidden, mask, pooling).flatten().tolist() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "hash:x"}, "hash:WIDTH"),
        ({"encoder": "hash", "pooling": "mean"}, "pooling has no meaning"),
        ({"encoder": "hash", "batch_size": 4}, "batch_size has no meaning"),
        ({"encoder": "openai:"}, "openai:MODEL"),
        ({"encoder": "openai:m"}, "SEQLOOM_EMBEDDINGS_URL"),
        ({"encoder": "openai:m", "max_tokens": 9}, "max_tokens has no meaning"),
        ({"encoder": "hash", "pooling": "max"}, "'mean', 'last' or 'cls'"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, object] | dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEQLOOM_EMBEDDINGS_URL", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match=message):
        build(**options)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two small layers with random weights and a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("lm")
    words = sorted({word for text in TEXTS for word in text.replace(",", "").split()})
    vocabulary = {word: i for i, word in enumerate(["<unk>", "</s>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
def test_a_batch_of_a_language_model_equals_one_by_one(tiny_llama: Path, pooling: Pooling) -> None:
    batch = LanguageModelEncoder("tiny", tiny_llama, pooling=pooling, batch_size=3, device="cpu")
    single = LanguageModelEncoder("tiny", tiny_llama, pooling=pooling, batch_size=1, device="cpu")
    together = batch.encode(TEXTS)
    alone = torch.cat([single.encode([text]) for text in TEXTS])
    assert together.shape == (len(TEXTS), 16)
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_language_model_reports_how_many_texts_it_cut(tiny_llama: Path) -> None:
    encoder = LanguageModelEncoder("tiny", tiny_llama, max_tokens=4, device="cpu")
    encoder.encode(TEXTS)
    assert encoder.truncated == 2
    with pytest.raises(ConfigError, match="at most 64"):
        LanguageModelEncoder("tiny", tiny_llama, max_tokens=65, device="cpu").encode(TEXTS)


def test_the_provenance_changes_with_anything_that_changes_the_vectors(tiny_llama: Path) -> None:
    def told(**options: Any) -> dict[str, Any]:
        return LanguageModelEncoder("tiny", tiny_llama, device="cpu", **options).provenance()

    assert told() == told(batch_size=7)
    assert len({str(told(**o)) for o in ({}, {"pooling": "last"}, {"max_tokens": 9})}) == 3


def test_minilm_gives_what_its_library_gives(minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [*TEXTS, "word " * 400]
    expected = SentenceTransformer(str(minilm), device="cpu").encode(texts, convert_to_tensor=True)
    encoder = build(encoder="all-minilm-l6-v2", device="cpu", batch_size=2)
    assert torch.allclose(encoder.encode(texts), expected.cpu(), atol=1e-5)
    assert encoder.truncated == 1
    with pytest.raises(ConfigError, match="at most 256"):
        build(encoder="all-minilm-l6-v2", max_tokens=300).encode(TEXTS)
