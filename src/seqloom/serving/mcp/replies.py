"""What the tools answer; the protocol sends these models' schemas to the assistant."""

from __future__ import annotations

from pydantic import BaseModel

from seqloom.runs.steering import FollowedSentence


class Item(BaseModel):
    """An item."""

    item_id: str
    title: str | None = None


class ListedItem(Item):
    """An item of a list; larger scores are better, comparable within one list only."""

    score: float


class RecommendedList(BaseModel):
    """A list, best first."""

    model: str
    items: list[ListedItem]
    history_length: int
    unknown: dict[str, list[str]]
    """Ids that the model does not know, by the part of the request."""
    fallback: str | None = None
    """Why these are the popular items instead."""
    about: FollowedSentence | None = None
    """How the sentence was understood."""


class SimilarItems(BaseModel):
    """The items most like one item."""

    model: str
    items: list[ListedItem]
    method: str


class Contribution(Item):
    """What the score loses without this item of the history."""

    change: float


class Reason(BaseModel):
    """Why an item has its score."""

    model: str
    item: Item
    rank: int
    """In the whole catalogue; 1 is best."""
    history: list[Contribution]
    """The largest contribution first."""
    views: dict[str, float]
    """The share of each view of the model; empty where it has one only."""
    words: str
    """The same in sentences."""


class FoundItems(BaseModel):
    """Items by words of their titles."""

    items: list[Item]


class ComparedMetric(BaseModel):
    """A metric of two models over the same users."""

    metric: str
    first: float
    second: float
    difference: float
    """Second minus first."""
    low: float
    """Lower bound of its 95 % interval."""
    high: float
    p: float
    """Two-sided, for one comparison."""


class ComparedModels(BaseModel):
    """Two models on the same held-out items."""

    first: str
    second: str
    users: int
    protocol: str
    """How the items were ranked, in sentences."""
    metrics: list[ComparedMetric]
