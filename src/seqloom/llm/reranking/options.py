"""Options of reranking."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seqloom.core.config import Config


class RerankOptions(Config):
    """Which language model reranks, how, and what a request may take."""

    model: str | None = None
    """`openai:MODEL` for an OpenAI-compatible endpoint, or a local causal language model by name, folder or
    GGUF file; none reranks nothing."""
    method: Literal["point", "list"] = "point"
    """`point` scores each candidate alone, so that no title can affect another item; `list` asks an endpoint
    once for an order of all candidates, which is cheaper."""
    candidates: int = Field(20, ge=2, le=100)
    """Best items of the list that are reranked; later ones keep their places."""
    history: int = Field(10, ge=1, le=100)
    """Latest items of the history whose titles are read."""
    passes: int = Field(1, ge=1, le=10)
    """With method=list: number of calls with shuffled candidates, whose orders are averaged."""
    weight: float = Field(1.0, gt=0, le=1)
    """Share of the language model in the new order; the rest is the list's own score. Both are standardised
    over the candidates."""
    time_s: float = Field(10.0, gt=0)
    """Budget of a request, seconds, waiting included."""
    max_tokens: int = Field(50_000, ge=1)
    """Budget of a request, tokens read and written. A call is made only if it is certain to fit."""
    max_money: float | None = Field(None, gt=0)
    """Budget of a request, in the currency of the prices; needs them."""
    price_in: float = Field(0.0, ge=0)
    """Price of a million tokens that are read."""
    price_out: float = Field(0.0, ge=0)
    """Price of a million tokens that are written."""
    concurrency: int = Field(8, ge=1, le=256)
    """Calls to an endpoint at a time, over all requests."""
    cache: int = Field(10_000, ge=0)
    """Answers that are kept, by their content."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.passes > 1 and self.method == "point":
            raise ValueError("passes=2 and more need method=list; by point there is no position")
        remote = self.model is not None and self.model.startswith("openai:")
        if self.method == "list" and self.model is not None and not remote:
            raise ValueError("method=list needs an endpoint (model openai:MODEL)")
        if self.max_money is not None and not (self.price_in or self.price_out):
            raise ValueError("max_money needs price_in and price_out")
        if self.model == "openai:":
            raise ValueError("write openai:MODEL")
        return self
