"""How ranks came about, so that only like is compared with like."""

from __future__ import annotations

from typing import Literal

from seqloom.core.config import Config


class RankingProtocol(Config):
    """What a rank means."""

    kind: Literal["full", "sampled"] = "full"
    """`full`: the target is ranked among the whole catalogue; `sampled`: among a few negatives."""
    part: Literal["valid", "test"] = "test"
    """The held-out part."""
    masked: bool = True
    """Whether items of the history are taken out of the ranking."""
    split: str = "leave-one-out"
    """How the data set was split."""
    negatives: int | None = None
    """Sampled items a user (sampled protocol only)."""
    seed: int | None = None
    """Seed of the negatives (sampled protocol only)."""
    fingerprint: str
    """Fingerprint of the prepared data set."""

    def differences(self, other: RankingProtocol) -> list[str]:
        """Each field that differs, with both values, for an error message."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [f"{k}: {mine[k]!r} and {theirs[k]!r}" for k in mine if mine[k] != theirs[k]]

    def statement(self) -> str:
        """The protocol in plain sentences."""
        part = "test" if self.part == "test" else "validation"
        if self.kind == "full":
            seen = (
                "items of the user's history are left out of the ranking"
                if self.masked
                else "items of the user's history stay in the ranking"
            )
            ranking = f"Full ranking: the target is ranked among the whole catalogue; {seen}."
        else:
            ranking = (
                f"Sampled ranking: the target is ranked among {self.negatives} items that the user "
                f"has in no part (seed {self.seed}, the same for every system). Sampled metrics "
                "are higher than full ones and serve only to compare with papers that report them."
            )
        return (
            f"Split: {self.split}; ranks are of the {part} part. {ranking} "
            "Ties count against the model. A user without a history is given what is popular, whatever the "
            "system. Popularity and groups come from the training part alone."
        )
