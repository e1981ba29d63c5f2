"""Queries of the engine and their results."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqloom.runs.steering import DEFAULT_WEIGHT, FollowedSentence
from seqloom.serving.engine.model import ServedModel


@dataclass(frozen=True, slots=True)
class Recommend:
    """Requests the best items for a user (history from the store) or for a given history."""

    user_id: str | None = None
    history: tuple[str, ...] | None = None
    k: int = 10
    exclude: tuple[str, ...] = ()
    candidates: tuple[str, ...] | None = None
    """Rank these items alone."""
    include_seen: bool | None = None
    """None: as the run was trained."""
    about: str | None = None
    """A sentence that steers the list."""
    about_weight: float = DEFAULT_WEIGHT
    keep_history: int = 0
    """How many latest known items of the history the answer repeats."""
    rank_of: tuple[str, ...] = ()
    """Items whose ranks among all that can be recommended the answer states."""


@dataclass(frozen=True, slots=True)
class Explain:
    """Requests an explanation of an item; `item_id` None explains the best one."""

    user_id: str | None = None
    history: tuple[str, ...] | None = None
    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class Similar:
    """Requests the items most similar to one item."""

    item_id: str
    k: int = 10


@dataclass(frozen=True, slots=True)
class Scored:
    """An item of a list."""

    item_id: str
    score: float
    number: int
    """In the model's catalogue."""


@dataclass(frozen=True, slots=True)
class _FromModel:
    """A result with the model that gave it, whose item numbers and counts belong together.

    After a reload another model of the same name numbers other items.
    """

    served: ServedModel

    @property
    def model(self) -> str:
        """The model's name."""
        return self.served.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.served.version


@dataclass(frozen=True, slots=True)
class Answer(_FromModel):
    """A list."""

    items: list[Scored]
    history_length: int = 0
    """Known items that the list is based on."""
    unknown: dict[str, list[str]] = field(default_factory=dict)
    """Ids that the model does not know, by the part of the request they came in."""
    fallback: str | None = None
    """Why the list holds the popular items instead; None where it does not."""
    method: str = ""
    """How similarity was measured."""
    history: tuple[str, ...] = ()
    """The latest known items of the history, oldest first, as many as the query asks for."""
    about: FollowedSentence | None = None
    """How the sentence was understood; None without one."""
    ranks: dict[str, int] = field(default_factory=dict)
    """Ranks of the items of `rank_of` that can be recommended."""
    rankable: int | None = None
    """Number of items that can be recommended; None unless ranks were asked for and are known."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """The contribution of one item of the history to a score."""

    item_id: str
    position: int
    """In the history that was read, 0 the oldest."""
    change: float
    """Score with the whole history less the score without this item."""


@dataclass(frozen=True, slots=True)
class ViewPart:
    """The part of one view in a score."""

    score: float
    """The parts add up to the score."""
    advantage: float
    """The part less its mean over the catalogue."""
    share: float
    """|advantage| over the sum of them, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Explanation(_FromModel):
    """Why an item has its score."""

    item_id: str
    score: float
    rank: int
    """Rank in the whole catalogue, seen items included; 1 is best."""
    list_rank: int | None
    """Rank among the items that can be recommended; None where the item is not one of them."""
    rankable: int
    """Number of items that can be recommended."""
    history: list[Contribution]
    """The largest contribution first."""
    views: dict[str, ViewPart]
    unknown: dict[str, list[str]]


Query = Recommend | Explain | Similar
