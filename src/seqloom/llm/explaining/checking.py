"""Checks that a sentence claims nothing but the evidence.

The check is lexical and strict: a sentence may use the words of the evidence that it cites, and words that
state a reason without adding a fact. Whatever it says beyond that is unsupported. So a true sentence may be
refused, and a false one that has another word, number or title in it cannot pass.
"""

from __future__ import annotations

import re

from seqloom.llm.explaining.evidence import Carrier, Evidence, content_words

_CITES = 0.5
"""Share of a title's words that a sentence has if it cites the title."""
_LONGEST = 400
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_MOST = frozenset(
    ("mainly", "mostly", "most", "main", "primarily", "largely", "chiefly", "strongest", "biggest")
)
_LIKENESS = frozenset(("common", "similar", "similarly", "related", "connected", "like", "sharing"))
_NEUTRAL = _MOST | _LIKENESS | frozenset(
    ("you", "your", "yours", "user", "customer", "person", "chose", "choose", "choosing", "bought", "buy",
     "buying", "purchased", "purchase", "purchases", "picked", "history", "earlier", "before", "past",
     "recent", "previous", "previously", "because", "since", "due", "reason", "reasons", "recommended",
     "recommend", "recommendation", "suggested", "suggest", "suggestion", "list", "listed", "item", "items",
     "product", "products", "title", "titles", "word", "words", "share", "shares", "score", "rank", "ranks",
     "percent", "part", "adds", "added", "add", "carried", "carries", "raised", "raises", "raise",
     "contributed", "contributes", "contribution", "based", "view", "views", "model", "also", "both", "which",
     "was", "were", "are", "be", "been", "has", "have", "had", "their", "they", "these", "those", "after",
     "why", "so", "explains", "explained", "advantage", "whole", "catalogue", "what", "comes", "came", "out",
     "made", "makes", "up", "we", "selected", "selection", "compares", "texts", "people")
)  # fmt: skip
"""Words that state a reason and no fact about items."""


def is_supported(sentence: str, evidence: Evidence) -> bool:
    """Returns whether every claim of a sentence is in the evidence.

    It must cite an item of the history that raised the score, a common word together with one, or a view;
    its other words must be of the evidence cited or neutral; a number must be the share of the one thing
    that it cites; "mainly" needs the largest share, "similar" a common word.
    """
    text = sentence.lower()
    words = content_words(sentence)
    if not words or len(sentence) > _LONGEST:
        return False
    cited = [each for each in evidence.carriers if _cites(words, each.title)]
    views = [(name, share) for name, share in evidence.views if name.lower() in words]
    if not cited and not views:
        return False
    allowed = set(content_words(evidence.item)) | _NEUTRAL
    for each in cited:
        allowed |= set(content_words(each.title))
    allowed |= {name.lower() for name, _ in views}
    without_numbers = [word for word in words if not _NUMBER.fullmatch(word)]
    if any(word not in allowed for word in without_numbers):
        return False
    if _LIKENESS & set(words) and not _have_common_words(cited, evidence):
        return False
    if _MOST & set(words) and not _is_largest(cited, views, evidence):
        return False
    return _numbers_fit(text, cited, views, evidence)


def _cites(words: list[str], title: str) -> bool:
    own = set(content_words(title))
    return bool(own) and len(own & set(words)) >= _CITES * len(own)


def _have_common_words(cited: list[Carrier], evidence: Evidence) -> bool:
    titles = {title for _, title in evidence.common}
    return bool(cited) and all(each.title in titles for each in cited)


def _is_largest(cited: list[Carrier], views: list[tuple[str, float]], evidence: Evidence) -> bool:
    """Whether what is cited has the largest share of its kind."""
    by_history = not cited or evidence.carriers[0] in cited
    return by_history and (not views or evidence.views[0] in views)


def _numbers_fit(
    text: str, cited: list[Carrier], views: list[tuple[str, float]], evidence: Evidence
) -> bool:
    """Whether numbers outside the cited titles are the share of the only thing that is cited."""
    for title in [evidence.item, *(each.title for each in cited)]:
        text = text.replace(title.lower(), " ")
    numbers = [float(number.replace(",", ".")) for number in _NUMBER.findall(text)]
    if not numbers:
        return True
    shares = [each.percent for each in cited] + [round(100 * share) for _, share in views]
    return len(shares) == 1 and numbers == [float(shares[0])]
