"""Options of reranking."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seqloom.llm.request_options import RequestOptions


class RerankOptions(RequestOptions):
    """Which language model reranks, how, and what a request may take."""

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

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.passes > 1 and self.method == "point":
            raise ValueError("passes=2 and more need method=list; by point there is no position")
        remote = self.model is not None and self.model.startswith("openai:")
        if self.method == "list" and self.model is not None and not remote:
            raise ValueError("method=list needs an endpoint (model openai:MODEL)")
        return self
