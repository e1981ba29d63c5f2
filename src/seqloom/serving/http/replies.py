"""Bodies of replies."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from seqloom.serving.http.problems import ProblemDocument


class DescribedItem(BaseModel):
    """An item with its texts, where a request asks for details."""

    item_id: str
    title: str | None = None
    attributes: dict[str, str] = Field(
        {}, description="Other texts of the catalogue by column, each cut at 300 characters."
    )
    picture: str | None = Field(
        None, description="The address of a picture, where the server's settings allow its origin."
    )


class ItemOut(DescribedItem):
    """An entry of a list."""

    score: float = Field(description="Larger is better; comparable within one list only.")
    tail: bool | None = Field(None, description="Whether the item is of the long tail.")


class StepOut(BaseModel):
    """The outcome of one model of the cascade."""

    model: str
    outcome: str = Field(description="answered, skipped, late or failed.")
    reason: str


class AboutOut(BaseModel):
    """How a sentence was understood."""

    wanted: str = Field(description="The part that draws items up; empty if there is none.")
    unwanted: list[str] = Field(description="The parts that push items down.")
    filters: list[str] = Field(description="Conditions that every item of the list meets.")
    weight: float


class RerankOut(BaseModel):
    """What became of reranking by a language model."""

    model: str
    applied: bool = Field(description="Whether the model ordered the list.")
    reason: str = Field(description="Why the list stayed as it was; empty where it did not.")
    tokens: int = Field(description="Read and written for this request.")
    money: float
    cached: int = Field(description="Answers of the model that were kept from before.")


class ListReply(BaseModel):
    """The items, best first, and the model that ranked them."""

    items: list[ItemOut]
    model: str
    version: str = Field(description="The first digits of the weights' SHA-256.")
    history_length: int = Field(0, description="Known items that the list is based on.")
    fallback: str | None = Field(None, description="Why the list holds popular items instead.")
    unknown: dict[str, list[str]] = Field(
        {}, description="Ids that the model does not know, by the part of the request."
    )
    about: AboutOut | None = Field(None, description="How the sentence `about` was understood.")
    rerank: RerankOut | None = Field(
        None, description="Where a language model was to reorder the list."
    )
    cascade: list[StepOut] | None = Field(
        None, description="The models of the cascade with their outcomes."
    )


class BatchReply(BaseModel):
    """A reply or a problem for each request, in their order."""

    results: list[ListReply | ProblemDocument]


class SimilarReply(BaseModel):
    """The items most similar to one item."""

    item_id: str
    items: list[ItemOut]
    model: str
    version: str
    method: str = Field(description="The measure of similarity.")


class ContributionOut(BaseModel):
    """The contribution of one item of the history to the score."""

    item_id: str
    title: str | None = None
    position: int = Field(description="In the part of the history that was read, 0 the oldest.")
    change: float = Field(description="The score less the score without this item.")


class ViewOut(BaseModel):
    """The contribution of one view to the score."""

    score: float = Field(description="The views add up to the score.")
    advantage: float = Field(description="The score less its mean over the catalogue.")
    share: float = Field(description="|advantage| over the sum of them.")


class SentenceOut(BaseModel):
    """A sentence that the numbers support."""

    text: str
    source: Literal["model", "template"]


class WordsOut(BaseModel):
    """An explanation in words."""

    sentences: list[SentenceOut]
    written: int = Field(description="Sentences that the language model wrote.")
    supported: int = Field(
        description="Those of them that the numbers support; only these are shown."
    )
    reason: str = Field(description="Why none of the model's is shown; empty where one is.")
    tokens: int


class ExplainReply(BaseModel):
    """Why an item has its score."""

    item_id: str
    title: str | None = None
    score: float
    rank: int = Field(description="Rank in the whole catalogue, seen items included.")
    list_rank: int | None = Field(
        None, description="Rank among the items that can be recommended; null for others."
    )
    rankable: int = Field(description="Number of items that can be recommended.")
    history: list[ContributionOut] = Field(description="The largest contribution first.")
    views: dict[str, ViewOut] = Field(description="Empty where a model has one view only.")
    unknown: dict[str, list[str]]
    words: WordsOut | None = Field(None, description="Where the request asks for words.")
    model: str
    version: str


class EventsReply(BaseModel):
    """The events are stored durably."""

    accepted: int
    unknown_items: list[str] = Field(description="Items of stored events that no model knows yet.")
    repeated: int = Field(0, description="Events that the store had already; omitted if zero.")


EventPart = Literal["train", "valid", "test", "unused", "after"]


class EventOut(DescribedItem):
    """A stored interaction."""

    timestamp: int | None = Field(None, description="Seconds since 1970; null if unknown.")
    part: EventPart | None = Field(
        None,
        description="With details: `train` if the model was trained on the event; `valid`, `test` and "
        "`unused` were held out, `after` came later; null if the data set is gone.",
    )


class UserReply(BaseModel):
    """All stored data of a user."""

    user_id: str
    history: list[EventOut]


class EraseReply(BaseModel):
    """The user's data is erased."""

    user_id: str
    erased: int = Field(description="Number of erased events.")


class ItemModel(BaseModel):
    """The state of an item in one model."""

    model: str
    recommends: bool
    reason: str | None = Field(None, description="Why it cannot be recommended.")


class ItemReply(BaseModel):
    """An item of the catalogue."""

    item_id: str
    attributes: dict[str, str | None]
    models: list[ItemModel]
    unused: list[str] = Field([], description="Columns that no served model reads.")


class FoundItem(DescribedItem):
    """A search result."""


class ItemsReply(BaseModel):
    """Items whose titles match a search."""

    items: list[FoundItem]


class UsersReply(BaseModel):
    """Users whose ids match a prefix."""

    users: list[str]


class ModelReply(BaseModel):
    """A served model."""

    model: str
    version: str
    system: str
    items: int
    loaded_at: int = Field(description="Seconds since 1970.")
    search: Literal["exact", "approximate"] = Field(description="How the best items are found.")
    recall: float | None = Field(
        None, description="Share of the exact top 10 that an approximate search finds, as measured."
    )
    new_items: bool = Field(description="Whether items can be added without training.")
    new_items_reason: str | None = Field(None, description="Why items cannot be added.")
    columns: list[str] = Field(description="Text columns of the catalogue.")
    tail_below: int | None = Field(
        None, description="Items with fewer events in training are of the long tail."
    )


class ModelsReply(BaseModel):
    """All served models; the first answers where a request names none and there is no cascade."""

    models: list[ModelReply]
    cascade: list[str]


class MetricsReply(BaseModel):
    """The results of `train` and `evaluate` of a run."""

    model: str
    version: str
    parameters: int
    seconds_total: float
    evaluations: list[dict[str, Any]] = Field(description="The documents of `seqloom evaluate`.")
    log: list[dict[str, Any]] = Field(description="One row an epoch.")


class ReloadReply(BaseModel):
    """The models after the reload."""

    models: list[ModelReply]


class HealthReply(BaseModel):
    """The process is alive."""

    status: str


class ReadyReply(BaseModel):
    """The server is ready for requests."""

    status: str
    store: str
    models: dict[str, str]
