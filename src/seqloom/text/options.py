"""Options of text encoders and text embeddings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqloom.core.config import Config

Pooling = Literal["mean", "last", "cls"]
Dtype = Literal["float32", "bfloat16", "float16"]
Users = Literal["prompt", "mean", "none"]


class EncoderOptions(Config):
    """Which text encoder to use, and how it runs."""

    encoder: str = "all-minilm-l6-v2"
    """A named model (`all-minilm-l6-v2`, `smollm2-135m-instruct`), a local folder, a GGUF file, a
    name on the Hugging Face hub, `openai:MODEL` for an OpenAI-compatible endpoint, or `hash` /
    `hash:WIDTH` for hashed words without a model."""
    pooling: Pooling | None = None
    """How a language model's hidden states become one vector: `mean`, `last` or `cls`. Default: that of
    the sentence-transformers model, otherwise `mean`."""
    batch_size: int | None = Field(default=None, ge=1)
    """Texts per batch; default: 64 (sentence-transformers), 32 (language models) or 128 (endpoint), and
    proportionally fewer for texts beyond 512 tokens. Not for `hash`."""
    max_tokens: int | None = Field(default=None, ge=4)
    """Truncates texts to this many tokens; default: the model's limit, and 512 for language models. Not
    for endpoints and `hash`."""
    device: str = "auto"
    """`auto` (a GPU if available), `cpu`, `cuda`, `cuda:1`, ..."""
    dtype: Dtype = "float32"
    """Number format in which a language model computes; vectors are stored as float32."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Rate limit for an endpoint; default: none."""
