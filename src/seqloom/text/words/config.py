"""Configuration of words and their vectors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqloom.core.config import Config


class WordsConfig(Config):
    """Configuration of the words of item texts and of their vectors."""

    template: str = "full"
    """Item text: `full` (all text columns), `title`, a file, or a text with {column} placeholders."""
    tokenizer: str = "catalogue"
    """`catalogue`: the words of the item texts, lower-case; else the model whose tokenizer is used, such
    as all-minilm-l6-v2."""
    min_count: int = Field(2, ge=1)
    """Number of items that contain a word with a vector of its own; rarer and new words share one."""
    pairs: bool = True
    """Give pairs of neighbouring words vectors as well, where at least min_count items contain them."""
    start: Literal["random", "pretrained"] = "random"
    """First word vectors: random ones, or the token vectors of the tokenizer's model."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Probability that a word or pair of an item is left out in a training step."""
