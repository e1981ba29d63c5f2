"""Options of `prepare`."""

from __future__ import annotations

from typing import Literal, Self, TypedDict

from pydantic import Field, model_validator

from seqloom.data.options import (
    Duplicates,
    Format,
    MaskSeen,
    Missing,
    ReadOptions,
    Ties,
    TimestampUnit,
)


class SplitOptions(ReadOptions):
    """What is held out."""

    split: Literal["leave-one-out", "temporal"] = "leave-one-out"
    """`leave-one-out`: each user's last event is the test target, the one before it the validation
    target. `temporal`: all events from one moment on are held out, for all users."""
    valid_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Temporal split: share of the events in the validation period."""
    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Temporal split: share of the events in the test period."""
    valid_from: str | int | None = None
    """Temporal split: start of the validation period (ISO date or seconds since 1970)."""
    test_from: str | int | None = None
    """Temporal split: start of the test period; requires `valid_from`."""
    cold_items: float = Field(default=0.0, ge=0, lt=1)
    """Share of the items excluded from training. Their events are removed, from histories too, except
    for test targets."""
    cold_users: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the users that are test users; the same share are validation users. Both are excluded
    from training, and their last event is the target. All events of the others are training events."""
    cold_seed: int = 42
    """Seed for the choice of cold items and users."""
    ties: Ties = "file"
    """Events of a user at the same time: `file` keeps the order of the file, `shuffle` orders them at random
    by `tie_seed` and the ids, `drop-targets` keeps the order and evaluates no target that is tied with
    another item."""
    tie_seed: int = 42
    """Seed for `ties='shuffle'`."""
    allow_sorted: bool = False
    """Accepts sequences that are sorted by item id, which are refused otherwise; for ids that were given in
    the order of time."""
    mask_seen: MaskSeen = "auto"
    """Whether runs leave items that the user has had out of ranking and lists: `auto` does unless 5 % of the
    training events or more repeat an item of their user."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("valid_from and test_from must be given together")
        if self.valid_from is not None and self.split != "temporal":
            raise ValueError("valid_from and test_from need split='temporal'")
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction + test_fraction must be below 1")
        if self.cold_users and self.split != "leave-one-out":
            raise ValueError("cold_users needs split='leave-one-out'")
        return self


class PrepareOptions(SplitOptions):
    """How a log becomes a data set."""

    min_count: int = Field(default=5, ge=0)
    """k-core: removes users and items with fewer events, repeatedly until none remain; 0 keeps all. The
    5-core is that of most published work."""
    min_user_count: int | None = Field(default=None, ge=0)
    """k-core bound for users; default: `min_count`."""
    min_item_count: int | None = Field(default=None, ge=0)
    """k-core bound for items; default: `min_count`."""
    min_rating: float | None = None
    """Removes events with a lower rating before anything else; default: keeps all."""
    duplicates: Duplicates = "keep-all"
    """Repeated (user, item): `keep-all`, keep only the `first` or the `last`, or `consecutive` (one
    event of each run of the same item)."""
    missing: Missing = "error"
    """Rows without a user, an item or a time: stop with an `error`, or `drop` and count them."""

    @property
    def core(self) -> tuple[int, int]:
        """The k-core bounds for users and items."""
        user, item = self.min_user_count, self.min_item_count
        return self.min_count if user is None else user, self.min_count if item is None else item


class PrepareKeywords(TypedDict, total=False):
    """The fields of `PrepareOptions` as keywords."""

    format: Format
    user_column: str | None
    item_column: str | None
    timestamp_column: str | None
    rating_column: str | None
    timestamp_unit: TimestampUnit
    time_format: str | None
    items_id_column: str | None
    text_columns: list[str] | None
    separator: str | None
    quote: Literal["auto", "none", '"']
    escape: str | None
    header: bool
    encoding: Literal["utf-8", "latin-1"]
    split: Literal["leave-one-out", "temporal"]
    valid_fraction: float
    test_fraction: float
    valid_from: str | int | None
    test_from: str | int | None
    cold_items: float
    cold_users: float
    cold_seed: int
    ties: Ties
    tie_seed: int
    allow_sorted: bool
    mask_seen: MaskSeen
    min_count: int
    min_user_count: int | None
    min_item_count: int | None
    min_rating: float | None
    duplicates: Duplicates
    missing: Missing
