"""Bodies of replies that compare models, for the explorer and other tools."""

from __future__ import annotations

from pydantic import BaseModel, Field

from seqloom.serving.http.problems import ProblemDocument
from seqloom.serving.http.replies import AboutOut, DescribedItem, EventPart, ItemOut


class ComparedList(BaseModel):
    """The list of one model, or why it has none."""

    model: str
    version: str | None = None
    items: list[ItemOut] = []
    history_length: int = Field(0, description="Known items that the list is based on.")
    fallback: str | None = Field(None, description="Why the list holds popular items instead.")
    unknown: dict[str, list[str]] = Field({}, description="Ids that the model does not know.")
    about: AboutOut | None = Field(None, description="How the sentence `about` was understood.")
    ranks: dict[str, int] = Field(
        {},
        description="The model's ranks of the items of all lists and of `rank_of`, if it can list them.",
    )
    rankable: int | None = Field(
        None, description="Number of items that can be recommended; null if not known."
    )
    problem: ProblemDocument | None = Field(None, description="Why this model did not answer.")


class NextOut(DescribedItem):
    """The event that came after the part of the history that was used."""

    timestamp: int | None = Field(None, description="Seconds since 1970; null if unknown.")
    ranks: dict[str, int] = Field(
        description="Its rank by model, where the model can recommend it."
    )
    parts: dict[str, EventPart | None] = Field(
        description="By model: `train` if the model was trained on the event."
    )


class CompareReply(BaseModel):
    """The lists of several models for one history."""

    models: list[ComparedList]
    shared: int = Field(description="Items that all lists hold.")
    next: NextOut | None = Field(None, description="With `hide_last`, the first hidden event.")


class ExampleOut(BaseModel):
    """A user worth opening with."""

    user_id: str
    events: int
    days: int | None = Field(None, description="Days with events (UTC); null without times.")
    shared: int | None = Field(
        None, description="Items of ten that the first two models both list; null with one model."
    )


class ExamplesReply(BaseModel):
    """Users that show what the models do, the best first; none where the store is empty."""

    users: list[ExampleOut]


class PreviewedItem(BaseModel):
    """What one model would do with an item that does not exist."""

    model: str
    reason: str | None = Field(None, description="Why the model cannot say; null where it can.")
    rank: int | None = Field(None, description="For the user or history of the request.")
    rankable: int | None = Field(
        None, description="Items that can be recommended, this one included."
    )
    reached: int = Field(0, description="Users of the sample in whose top 50 it would be.")
    asked: int = Field(0, description="Size of the sample of users.")
    nearest: list[ItemOut] = Field([], description="The known items most alike for the model.")


class PreviewReply(BaseModel):
    """Where an item would stand. Nothing was stored."""

    models: list[PreviewedItem]
