"""How ranks came about, so that only like is compared with like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from seqloom.core.config import Config

PROTOCOL_VERSION = 2
"""Raised whenever the same scores come to other ranks.

1, and where a stored protocol says nothing: masking spared the target, so that one which the user had before
competed with unseen items alone; equal counts were ordered by item number, and items were sampled by it.
2: a masked target is a miss; ties and sampled items depend on ids.
"""


class RankingProtocol(Config):
    """What a rank means."""

    kind: Literal["full", "sampled"] = "full"
    """`full`: the target is ranked among the whole catalogue; `sampled`: among a few negatives."""
    part: Literal["valid", "test"] = "test"
    """The held-out part."""
    masked: bool = True
    """Whether items of the history are taken out of the ranking. A target among them is then a miss."""
    split: str = "leave-one-out"
    """How the data set was split."""
    negatives: int | None = None
    """Sampled items a user (sampled protocol only)."""
    seed: int | None = None
    """Seed of the negatives (sampled protocol only)."""
    fingerprint: str
    """Fingerprint of the prepared data set."""
    version: int = PROTOCOL_VERSION
    """`PROTOCOL_VERSION` of the seqloom that ranked."""

    @property
    def outdated(self) -> str:
        """Why these ranks are not comparable with those of this seqloom; empty where they are."""
        if self.version == PROTOCOL_VERSION:
            return ""
        if self.version < PROTOCOL_VERSION:
            return (
                "it was ranked under the former protocol, in which a target that the user had before was "
                "spared by the masking and nearly always won"
            )
        return (
            f"it was ranked under protocol version {self.version}, this seqloom ranks under "
            f"{PROTOCOL_VERSION}"
        )

    def differences(self, other: RankingProtocol) -> list[str]:
        """Each field that differs, with both values, for an error message."""
        mine, theirs = self.model_dump(), other.model_dump()
        told = {"version": "protocol version"}
        return [
            f"{told.get(k, k)}: {mine[k]!r} and {theirs[k]!r}" for k in mine if mine[k] != theirs[k]
        ]

    def statement(self) -> str:
        """The protocol in plain sentences."""
        part = "test" if self.part == "test" else "validation"
        if self.kind == "full":
            seen = (
                "items of the user's history are left out of the ranking, so a target among them is a miss"
                if self.masked
                else "items of the user's history stay in the ranking"
            )
            ranking = f"Full ranking: the target is ranked among the whole catalogue; {seen}."
        else:
            seen = (
                "A target that the user had before is a miss. "
                if self.masked
                else "A target that the user had before is ranked like any other. "
            )
            ranking = (
                f"Sampled ranking: the target is ranked among {self.negatives} items that the user "
                f"has in no part (seed {self.seed}, the same for every system). {seen}Sampled metrics "
                "are higher than full ones and serve only to compare with papers that report them."
            )
        former = f"Outdated: {self.outdated}. " if self.outdated else ""
        return (
            f"{former}Split: {self.split}; ranks are of the {part} part. {ranking} "
            "Ties count against the model. A user without a history is given what is popular, whatever the "
            "system. Popularity and groups come from the training part alone."
        )


def _dated(document: Any) -> Any:
    """A stored protocol without a version is of the first."""
    if isinstance(document, dict) and "version" not in document:
        return {**document, "version": 1}
    return document


StoredProtocol = Annotated[RankingProtocol, BeforeValidator(_dated)]
"""The type of a protocol in what is read back from a file."""


def stored_protocol(document: Any) -> RankingProtocol:
    """The protocol of a file's metadata.

    Raises:
        ConfigError: it is none.
    """
    return RankingProtocol.build(_dated(document))
