"""The ranking protocol: the conditions under which ranks can be compared."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from seqloom.core.config import Config

PROTOCOL_VERSION = 2
"""Incremented whenever the same scores lead to other ranks.

1, also assumed where a stored protocol has no version: masking exempted the target, so a repeated target
competed with unseen items only; item numbers decided the order of equal counts and the sampled items.
2: a masked target is a miss; ids decide ties and sampled items.
"""


class RankingProtocol(Config):
    """The conditions under which ranks were computed."""

    kind: Literal["full", "sampled"] = "full"
    """`full` ranks the target within the whole catalogue, `sampled` against a few negatives."""
    part: Literal["valid", "test"] = "test"
    """The held-out part."""
    masked: bool = True
    """Whether items of the history are removed from the ranking; a target in the history is then a miss."""
    split: str = "leave-one-out"
    """The data set's split."""
    negatives: int | None = None
    """Sampled items per user (sampled protocol only)."""
    seed: int | None = None
    """Seed of the negatives (sampled protocol only)."""
    fingerprint: str
    """Fingerprint of the prepared data set."""
    version: int = PROTOCOL_VERSION
    """`PROTOCOL_VERSION` under which the ranks were computed."""

    @property
    def outdated(self) -> str:
        """Why these ranks cannot be compared with ranks of this version; empty if they can."""
        if self.version == PROTOCOL_VERSION:
            return ""
        if self.version < PROTOCOL_VERSION:
            return (
                "it was ranked under the former protocol, in which masking exempted a target that the user "
                "had before, so that it nearly always ranked first"
            )
        return (
            f"it was ranked under protocol version {self.version}, this seqloom ranks under "
            f"{PROTOCOL_VERSION}"
        )

    def differences(self, other: RankingProtocol) -> list[str]:
        """Describes each field that differs, with both values, for an error message."""
        mine, theirs = self.model_dump(), other.model_dump()
        labels = {"version": "protocol version"}
        return [
            f"{labels.get(k, k)}: {mine[k]!r} and {theirs[k]!r}"
            for k in mine
            if mine[k] != theirs[k]
        ]

    def statement(self) -> str:
        """Describes the protocol in sentences."""
        part = "test" if self.part == "test" else "validation"
        if self.kind == "full":
            seen = (
                "items of the user's history are left out of the ranking, so a target in it is a miss"
                if self.masked
                else "items of the user's history stay in the ranking"
            )
            ranking = f"Full ranking: the target is ranked within the whole catalogue; {seen}."
        else:
            seen = (
                "A target that the user had before is a miss. "
                if self.masked
                else "A target that the user had before is ranked like any other. "
            )
            ranking = (
                f"Sampled ranking: the target is ranked against {self.negatives} items that the user "
                f"has in no part (seed {self.seed}, the same for every system). {seen}Sampled metrics "
                "are higher than full ones; use them only to compare with papers that report them."
            )
        former = f"Outdated: {self.outdated}. " if self.outdated else ""
        return (
            f"{former}Split: {self.split}; ranks are of the {part} part. {ranking} "
            "Ties count against the model. Every system recommends popular items to users without a history. "
            "Popularity and groups are computed from the training part only."
        )


def _dated(document: Any) -> Any:
    """Gives a stored protocol without a version the version 1."""
    if isinstance(document, dict) and "version" not in document:
        return {**document, "version": 1}
    return document


StoredProtocol = Annotated[RankingProtocol, BeforeValidator(_dated)]
"""The type of a protocol in a model that is read from a file."""


def stored_protocol(document: Any) -> RankingProtocol:
    """Parses the protocol in a file's metadata.

    Raises:
        ConfigError: it is not a protocol.
    """
    return RankingProtocol.build(_dated(document))
