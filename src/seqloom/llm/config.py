"""Configurations of language models and adapters."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seqloom.core.config import Config


class LanguageModelConfig(Config):
    """Which language model to load, and how many of its layers."""

    name: str = "smollm2-135m-instruct"
    """A named asset, a local folder, a GGUF file, a name on the Hugging Face hub, or what `tune-llm`
    wrote."""
    num_layers: int | None = Field(None, ge=1)
    """Number of first layers to keep; all if not given. On a CPU a few are enough."""
    kind: Literal["causal", "bidirectional"] = "causal"
    """A decoder-only language model, or an encoder such as BERT or MiniLM (needs mode=prompt)."""
    start: Literal["pretrained", "random"] = "pretrained"
    """Pretrained weights, or random ones of the same shape, to measure what pretraining contributes."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the frozen weights; auto is bfloat16 on a GPU and float32 on a CPU."""
    quantise: Literal["8bit", "4bit"] | None = None
    """Load the weights in 8 or 4 bits with bitsandbytes; needs a CUDA GPU."""
    gradient_checkpointing: bool = False
    """Training keeps only the input of each layer and computes the rest again in the backward pass: less
    memory, a third to a half more time."""


class LoraSettings(Config):
    """Low-rank adapters. Source of the defaults: E4SRec, section 4.1.4."""

    rank: int = Field(16, ge=1)
    """Width of the low-rank maps."""
    alpha: float = Field(16.0, gt=0)
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout on the adapter's input."""
    targets: list[str] | None = None
    """Name endings of the layers that get an adapter; the feed-forward layers if not given."""


NetworkSource = Literal["pretrained", "t5", "llama"]


_FROM_SCRATCH = (
    "hidden_size",
    "num_layers",
    "num_heads",
    "feed_forward_size",
    "dropout",
    "residual_dropout",
)


class NetworkConfig(Config):
    """A language model, by name or by shape."""

    source: NetworkSource = "pretrained"
    """A pretrained model, or one from scratch: encoder-decoder (t5) or decoder-only (llama)."""
    name: str = "smollm2-135m-instruct"
    """pretrained: a named model, a folder, a GGUF file or a hub name; decoder-only or T5 family."""
    first_layers: int | None = Field(None, ge=1)
    """pretrained: keep so many of its first layers; all if not given."""
    hidden_size: int = Field(128, ge=8)
    """From scratch: D."""
    num_layers: int = Field(3, ge=1)
    """From scratch: blocks (t5: of the encoder and again of the decoder)."""
    num_heads: int = Field(4, ge=1)
    """From scratch: attention heads; they divide hidden_size."""
    feed_forward_size: int = Field(512, ge=8)
    """From scratch: width inside the feed-forward layers."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """From scratch: dropout rate (t5: everywhere; llama: of the attention)."""
    residual_dropout: float = Field(0.0, ge=0, lt=1)
    """From scratch, llama: dropout rate of the embeddings, of each layer's two sums, and of the states."""
    gradient_checkpointing: bool = False
    """Training keeps only the input of each layer and computes the rest again in the backward pass: less
    memory, a third to a half more time."""

    @model_validator(mode="after")
    def _shape_is_used(self) -> Self:
        """Refuses shape settings together with a pretrained model, which would ignore them."""
        fields = type(self).model_fields
        given = [n for n in _FROM_SCRATCH if getattr(self, n) != fields[n].default]
        if self.source == "pretrained" and given:
            raise ValueError(
                f"{', '.join(given)}: for models from scratch alone; set source to t5 or llama, or "
                "leave the shape out"
            )
        if self.source == "t5" and self.residual_dropout:
            raise ValueError(
                f"residual_dropout is {self.residual_dropout}, and a t5 has one rate for all of its dropout: "
                "set dropout, or source=llama"
            )
        return self
