"""Bodies of requests. `validation` checks the limits that a server can configure."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StringConstraints,
    model_validator,
)

from seqloom.runs.steering import DEFAULT_WEIGHT
from seqloom.text.about import LONGEST

Identifier = Annotated[
    str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")
]
"""The id of a user or an item, without control characters, which databases may alter."""
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Time = StrictInt | StrictFloat | Annotated[str, StringConstraints(strict=True, max_length=64)]
"""Parsed by `event_times`."""


class Request(BaseModel):
    """The base of all request bodies. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Subject(Request):
    """The subject of a request: a user of the store, or a history."""

    user_id: Identifier | None = Field(None, description="A user whose events are in the store.")
    history: list[Identifier] | None = Field(
        None, description="Item ids, oldest first, in place of a user."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> _Subject:
        if (self.user_id is None) == (self.history is None):
            raise ValueError("give either user_id or history")
        return self


class RecommendRequest(_Subject):
    """A request for a list."""

    k: int = Field(10, ge=1, description="Number of items.")
    exclude: list[Identifier] = Field([], description="Items to leave out.")
    candidates: list[Identifier] | None = Field(None, description="Rank these items alone.")
    include_seen: bool | None = Field(
        None,
        description="Include items of the history; by default as the model was trained.",
    )
    about: str | None = Field(
        None,
        max_length=LONGEST,
        description="A sentence that steers the list: 'a gift for a gardener, nothing with perfume'.",
    )
    about_weight: float = Field(
        DEFAULT_WEIGHT, ge=0, le=100, description="How strongly `about` steers; 0 only filters."
    )
    rerank: bool | None = Field(
        None,
        description="Whether the server's language model reorders the list; if left out, only that of the "
        "cascade.",
    )
    details: bool = Field(False, description="Include titles and long-tail marks.")
    model: str | None = Field(None, description="Which model; the server's default if left out.")
    budget_ms: float | None = Field(
        None, gt=0, le=60_000, description="Latency budget of the cascade, milliseconds."
    )


class BatchRequest(Request):
    """Several requests at once."""

    requests: list[RecommendRequest] = Field(min_length=1)


class ExplainRequest(_Subject):
    """A request for an explanation."""

    item_id: Identifier | None = Field(None, description="The item; the best one if left out.")
    words: bool = Field(
        False, description="Say it in sentences too, each checked against the numbers."
    )
    model: str | None = Field(None, description="Which model; the server's default if left out.")


Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Models = Annotated[
    list[Name],
    Field(min_length=1, max_length=8, description="Names of models; the first two if left out."),
]


class CompareRequest(_Subject):
    """A request for the lists of several models."""

    models: Models | None = None
    tried: list[Identifier] = Field(
        [], max_length=20, description="Items to put behind the history, without storing anything."
    )
    hide_last: int = Field(
        0, ge=0, le=1000, description="How many of the latest events to leave out."
    )
    rank_of: list[Identifier] = Field(
        [], max_length=20, description="Items whose ranks to state beside those of the lists."
    )
    k: int = Field(10, ge=1, description="Number of items of each list.")
    about: str | None = Field(
        None, max_length=LONGEST, description="A sentence that steers the lists."
    )
    about_weight: float = Field(DEFAULT_WEIGHT, ge=0, le=100, description="How strongly it steers.")


class PreviewRequest(_Subject):
    """An item that does not exist, and for whom it should be ranked."""

    attributes: dict[Text, Text] = Field(description="Text by column, as for a new item.")
    models: Models | None = None


class EventIn(Request):
    """An interaction."""

    user_id: Identifier
    item_id: Identifier
    timestamp: Time | None = Field(
        None,
        description="Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their "
        "size, or an ISO 8601 date (UTC where it names no zone); at most a day ahead of the server's clock. "
        "Now if left out. A fraction of a second is cut off.",
    )


class EventsRequest(Request):
    """Interactions to store, all or none."""

    events: list[EventIn] = Field(min_length=1)


class ItemRequest(Request):
    """The text of an item, by the columns of the catalogue."""

    attributes: dict[Text, Text] = Field(
        description="Text by column, as in the catalogue of the training (title, brand, ...)."
    )


class ReloadRequest(Request):
    """A request to reload models."""

    model: str | None = Field(None, description="A model; all if left out.")
