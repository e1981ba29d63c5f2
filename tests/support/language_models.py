"""Small language models with random weights for tests, saved as ordinary folders."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

_WORDS = ["below", "is", "an", "instruction", "that", "describes", "a", "task", "write", "user"]
_KEPT = tempfile.TemporaryDirectory(prefix="seqloom-test-lm-")


def tiny_llama(folder: Path, *, num_layers: int = 2, width: int = 32, seed: int = 0) -> Path:
    """A Llama with a word-level tokenizer that has no padding token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = _tokenizer(folder)
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


def tiny_bert(folder: Path) -> Path:
    """A BERT of two layers."""
    from transformers import BertConfig, BertModel

    size = _tokenizer(folder)
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


def tiny_sentence(folder: Path) -> Path:
    """A sentence-transformers model: such a BERT, the mean of its states, a Dense module of width 8."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

    inner = Transformer(str(tiny_bert(folder / "bert")))
    inner.tokenizer.pad_token = "</s>"
    torch.manual_seed(0)
    modules = [inner, Pooling(inner.get_embedding_dimension()), Dense(32, 8)]
    SentenceTransformer(modules=modules).save(str(folder))
    shutil.rmtree(folder / "bert")
    return folder


@cache
def kept_llama() -> Path:
    """One such Llama for a whole test process."""
    return tiny_llama(Path(_KEPT.name) / "llama")


def _tokenizer(folder: Path) -> int:
    """Write a tokenizer; gives its number of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    words = {word: number for number, word in enumerate(["<unk>", "</s>", *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")
    fast.save_pretrained(folder)
    return len(words)
