"""Options of text encoders and text embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from seqloom.core.config import Config

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "last", "cls"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
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
    proportionally fewer for texts beyond 512 tokens; on a GPU as many as have 65,536 tokens together, fewer
    for wide models. Not for `hash`."""
    max_tokens: int | None = Field(default=None, ge=4)
    """Truncates texts to this many tokens; default: the model's limit, and 512 for language models. Not
    for endpoints and `hash`."""
    device: str = "auto"
    """`auto` (a GPU if available), `cpu`, `cuda`, `cuda:1`, ..."""
    dtype: Dtype = "auto"
    """Number format in which a model computes: `float32`, `bfloat16`, `float16`, or `auto`, which is
    `bfloat16` on a GPU and `float32` elsewhere. Vectors are stored as float32. Not for endpoints and
    `hash`."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Rate limit for an endpoint; default: none."""


def resolve_dtype(dtype: Dtype, device: torch.device) -> Dtype:
    """Returns the number format on a device; `auto` is `bfloat16` on a GPU, `float32` elsewhere."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if device.type == "cuda" else "float32"
