"""Tiny language models and tokenizers with random weights: in memory, or saved as model folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

# fmt: off
WORDS = [
    "red", "blue", "green", "big", "small", "old", "new", "soft", "hard", "cream", "soap", "oil",
    "brush", "comb", "file", "lamp", "mug", "pot", "dry", "wet", "hand", "nail", "hair", "face",
    "skin", "item", "a", "of", "the", ";", ":", "user", "bought", "next",
]
"""Words of `build_tiny_tokenizer`: of item texts and of prompts."""
# fmt: on
SPECIAL = ("<pad>", "</s>", "<unk>")
_PROMPT_WORDS = [
    "below",
    "is",
    "an",
    "instruction",
    "that",
    "describes",
    "a",
    "task",
    "write",
    "user",
]
_FOLDER = tempfile.TemporaryDirectory(prefix="seqloom-test-lm-")


def build_tiny_tokenizer() -> Any:
    """Builds a tokenizer with one token a word of `WORDS`; `SPECIAL` come first."""
    return _build_word_tokenizer([*SPECIAL, *WORDS], pad_token="<pad>")


def build_tiny_network(
    kind: Literal["t5", "llama"], vocabulary: int = len(SPECIAL) + len(WORDS), seed: int = 0
) -> Any:
    """Builds a T5 or a Llama of two layers, in float32 and evaluation mode.

    Weights are drawn with a large standard deviation, so that outputs depend on all of them.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    network: Any
    if kind == "t5":
        shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
        config = T5Config(vocab_size=vocabulary, decoder_start_token_id=0, **shape)
        network = T5ForConditionalGeneration(config)
    else:
        network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                tie_word_embeddings=True,
                eos_token_id=1,
            )
        )
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.3)
    return network.eval()


def save_tiny_llama(folder: Path, *, num_layers: int = 2, width: int = 32, seed: int = 0) -> Path:
    """Saves a Llama whose tokenizer has no padding token; returns `folder`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = _save_prompt_tokenizer(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@cache
def shared_tiny_llama() -> Path:
    """Folder of a Llama as `save_tiny_llama` writes it, one for the whole test process."""
    return save_tiny_llama(Path(_FOLDER.name) / "llama")


def save_tiny_bert(folder: Path) -> Path:
    """Saves a BERT of two layers; returns `folder`."""
    from transformers import BertConfig, BertModel

    size = _save_prompt_tokenizer(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def save_tiny_sentence_model(folder: Path) -> Path:
    """Saves a sentence-transformers model (BERT, mean pooling, Dense of width 8); returns `folder`."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

    inner = Transformer(str(save_tiny_bert(folder / "bert")))
    inner.tokenizer.pad_token = "</s>"
    torch.manual_seed(0)
    modules = [inner, Pooling(inner.get_embedding_dimension()), Dense(32, 8)]
    SentenceTransformer(modules=modules).save(str(folder))
    shutil.rmtree(folder / "bert")
    return folder


def _save_prompt_tokenizer(folder: Path) -> int:
    """Saves a tokenizer of instruction words without a padding token; returns its vocabulary size."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _build_word_tokenizer(["<unk>", "</s>", *_PROMPT_WORDS])
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _build_word_tokenizer(words: Sequence[str], **special: str) -> Any:
    """Builds a tokenizer with one token a word, numbered in the order of `words`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", **special
    )
