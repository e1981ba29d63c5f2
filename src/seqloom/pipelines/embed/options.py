"""Options of `embed`."""

from __future__ import annotations

from typing import TypedDict

from pydantic import Field

from seqloom.text.options import Dtype, EncoderOptions, Pooling, Users


class EmbedOptions(EncoderOptions):
    """Which text embeddings to create."""

    name: str | None = None
    """Name of the embeddings; default: the encoder's name."""
    item_template: str = "full"
    """`full` (all text columns with their names), `title`, a file, or a text with {column} placeholders."""
    user_template: str = "titles"
    """`titles`, a file, or a text with the placeholder {titles}."""
    users: Users = "prompt"
    """`prompt` encodes a text of the user's training items, `mean` averages their embeddings,
    `none` creates no user embeddings."""
    user_max_items: int = Field(default=20, ge=1)
    """Most titles in a user's text; the most recent ones are kept."""
    user_max_words: int = Field(default=110, ge=1)
    """Most words of titles in a user's text; the oldest titles are dropped first. The default keeps
    product titles within the 256 tokens that small sentence encoders read."""
    default: bool = False
    """Makes these the embeddings that `train` uses by default."""


class EmbedKeywords(TypedDict, total=False):
    """The fields of `EmbedOptions` as keywords."""

    pooling: Pooling | None
    batch_size: int | None
    max_tokens: int | None
    device: str
    dtype: Dtype
    requests_per_minute: float | None
    name: str | None
    item_template: str
    user_template: str
    users: Users
    user_max_items: int
    user_max_words: int
    default: bool
