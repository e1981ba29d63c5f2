"""What is known about why an item has its score, and the sentences that state it without a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqloom.llm.reranking.prompts import clean_title

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_MOST_CARRIERS = 3
_FEWEST_SHARE = 0.05
"""Items of the history that carried less are not named."""
_STOP = frozenset(
    ("a", "an", "the", "of", "for", "and", "or", "with", "in", "on", "to", "by", "from", "at", "as",
     "is", "it", "its", "this", "that", "new", "pack", "set", "oz", "ounce", "ml", "count")
)  # fmt: skip
_VIEWS = {
    "semantic": "compares texts",
    "collaborative": "compares what people chose",
}


@dataclass(frozen=True)
class Carrier:
    """An item of the history that raised the score."""

    title: str
    share: float
    """Its part of all that items of the history added to the score, 0 to 1."""

    @property
    def percent(self) -> int:
        """The share in whole percent."""
        return round(100 * self.share)


@dataclass(frozen=True)
class Evidence:
    """Counterfactual evidence about one recommendation."""

    item: str
    """The item's title."""
    rank: int
    carriers: tuple[Carrier, ...] = ()
    """The largest share first."""
    views: tuple[tuple[str, float], ...] = ()
    """Views and their shares, 0 to 1, the largest first."""
    common: tuple[tuple[str, str], ...] = ()
    """Words that the item's title shares with a carrier's, and that carrier's title."""

    @classmethod
    def of(
        cls,
        item: str | None,
        rank: int,
        changes: Sequence[tuple[str | None, float]],
        views: Mapping[str, float],
    ) -> Evidence:
        """Collects evidence.

        Args:
            changes: title of each item of the history, and what the score loses without it.
            views: the share of each view of the model in the score.
        """
        title = clean_title(item)
        total = sum(change for _, change in changes if change > 0)
        carriers = [
            Carrier(clean_title(each), change / total) for each, change in changes if change > 0
        ]
        named = [each for each in carriers if each.share >= _FEWEST_SHARE]
        named = sorted(named, key=lambda each: -each.share)[:_MOST_CARRIERS]
        common = [
            (word, each.title)
            for each in named
            for word in dict.fromkeys(content_words(title))
            if word in content_words(each.title)
        ]
        ordered = sorted(views.items(), key=lambda entry: -entry[1])
        return cls(title, rank, tuple(named), tuple(ordered), tuple(common))


def content_words(text: str) -> list[str]:
    """Returns the lower-case words of a text that carry meaning."""
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP and len(word) > 1]


def template_sentences(evidence: Evidence) -> list[str]:
    """States the evidence: one sentence on the history, one on common words or on views."""
    if not evidence.carriers:
        return [
            f"No item of the history alone raised the score of {_quote(evidence.item)}; "
            f"it has rank {evidence.rank} of the whole catalogue."
        ]
    named = [f"{_quote(each.title)} ({each.percent} %)" for each in evidence.carriers]
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    sentences = [
        f"Of what the history adds to the score of {_quote(evidence.item)}, most is due to {listed}."
    ]
    if evidence.common:
        title = evidence.common[0][1]
        words = [_quote(word) for word, other in evidence.common if other == title][:3]
        sentences.append(f"Its title shares {', '.join(words)} with {_quote(title)}.")
    elif evidence.views:
        name, share = evidence.views[0]
        what = f", which {_VIEWS[name]}," if name in _VIEWS else ""
        sentences.append(f"The {name} view{what} makes up {round(100 * share)} % of its advantage.")
    return sentences


def _quote(text: str) -> str:
    return f"“{text}”"
