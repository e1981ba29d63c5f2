"""Options of every kind of request to a language model."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from seqloom.core.config import Config
from seqloom.llm.budget import Budget


class RequestOptions(Config):
    """Which language model is asked, and what a request may take."""

    model: str | None = None
    """`openai:MODEL` for an OpenAI-compatible endpoint, or a local causal language model by name, folder or
    GGUF file; none asks nothing."""
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
    def _check_request(self) -> Self:
        if self.max_money is not None and not (self.price_in or self.price_out):
            raise ValueError("max_money needs price_in and price_out")
        if self.model == "openai:":
            raise ValueError("write openai:MODEL")
        return self

    def new_budget(self, seconds: float | None = None) -> Budget:
        """Starts the budget of a request, of `seconds` if these are fewer than `time_s`."""
        return Budget(
            self.time_s if seconds is None else min(seconds, self.time_s),
            self.max_tokens,
            money=self.max_money,
            price_in=self.price_in,
            price_out=self.price_out,
        )
