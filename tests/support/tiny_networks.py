"""Tiny language models with random weights, built in the test."""

from __future__ import annotations

import torch

# fmt: off
WORDS = [
    "red", "blue", "green", "big", "small", "old", "new", "soft", "hard", "cream", "soap", "oil",
    "brush", "comb", "file", "lamp", "mug", "pot", "dry", "wet", "hand", "nail", "hair", "face",
    "skin", "item", "a", "of", "the", ";", ":", "user", "bought", "next",
]
# fmt: on
SPECIAL = ("<pad>", "</s>", "<unk>")


def tiny_tokenizer():
    """One token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    table = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="<pad>"
    )


def tiny_network(kind: str, vocabulary: int = len(SPECIAL) + len(WORDS), seed: int = 0):
    """A T5 or a Llama of two small layers, float32, in evaluation mode, with weights that matter."""
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    if kind == "t5":
        shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
        config = T5Config(vocab_size=vocabulary, decoder_start_token_id=0, **shape)
        network = T5ForConditionalGeneration(config)
    else:
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
            eos_token_id=1,
        )
        network = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.3)
    return network.eval()
