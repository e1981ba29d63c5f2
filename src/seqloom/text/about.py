"""Reads a sentence about what a list should hold: wanted and unwanted parts, and filters.

The grammar is small, English and needs no model, so that a reply can state what was understood:

- "nothing with", "without", "not", "no", "except" and the like push the words after them away, up to the next
  comma, "but", "with", or word of the same kind;
- "under 20", "at least 4", "between 10 and 20", "before 1980" compare the numeric column that is named
  beside them (`price under 20`), else `price`, else the only one;
- "brand X" keeps the items whose column `brand` holds X, "not brand X" those where it does not.

All that remains is wanted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from seqloom.core.errors import ConfigError
from seqloom.text.filters import Comparison, Filter, FilterColumns, number_of, words_of

LONGEST = 1000
"""Characters of a sentence."""

_TOKEN = re.compile(r"[$€£]?\d+(?:,\d{3})*(?:\.\d+)?(?![^\W_])|[^\W_]+(?:['’&-][^\W_]+)*|[,;.!?:]")
_MARKERS = (
    "i don't want", "i don’t want", "nothing that has", "nothing with", "nothing like", "nothing from",
    "without any", "not with", "not any", "none of", "except for", "don't want",
    "without", "except", "excluding", "avoiding", "avoid", "never", "nothing", "not", "no",
)  # fmt: skip
"""Negations, longer ones first."""
_MARKER_WORDS = tuple(tuple(marker.split()) for marker in _MARKERS)
_NOT_MARKERS = {("not", "only"), ("no", "matter"), ("not", "just")}
_ENDS = {",", ";", ".", "!", "?", "but", "with", "yet", "only", "please"}
_SPLITS = {"or", "nor", "and"}
_EMPTY_WORDS = frozenset(
    ("a", "an", "the", "i", "me", "my", "some", "any", "something", "anything", "thing", "things", "want",
     "would", "like", "to", "for", "of", "with", "and", "or", "but", "please", "give", "show", "find",
     "items", "item", "recommend", "only", "just")
)  # fmt: skip
_RANGES: dict[str, Comparison] = {
    "no more than": "at most",
    "not more than": "at most",
    "not over": "at most",
    "not above": "at most",
    "at most": "at most",
    "up to": "at most",
    "no less than": "at least",
    "not less than": "at least",
    "not under": "at least",
    "not below": "at least",
    "at least": "at least",
    "since": "at least",
    "more than": "above",
    "less than": "below",
    "cheaper than": "below",
    "older than": "below",
    "newer than": "above",
    "under": "below",
    "below": "below",
    "before": "below",
    "over": "above",
    "above": "above",
    "after": "above",
}
_RANGE_PHRASES = sorted(
    ((tuple(words.split()), comparison) for words, comparison in _RANGES.items()),
    key=lambda entry: -len(entry[0]),
)
_UNITS = {"dollars", "dollar", "euros", "euro", "usd", "eur", "pounds"}
_LINKS = {":", "is", "of", "by"}


class AboutError(ConfigError):
    """A sentence that cannot be followed. The message does not repeat it."""


@dataclass(frozen=True)
class About:
    """What a sentence asks for."""

    wanted: str = ""
    """Words whose meaning items should be near; empty if there are none."""
    unwanted: tuple[str, ...] = ()
    """Words whose meaning items should be far from."""
    filters: tuple[Filter, ...] = ()


@dataclass
class _Parts:
    """What was read so far."""

    wanted: list[str] = field(default_factory=list)
    unwanted: list[list[str]] = field(default_factory=list)
    filters: list[Filter] = field(default_factory=list)


def parse_about(sentence: str, columns: FilterColumns) -> About:
    """Reads a sentence.

    Raises:
        AboutError: it is empty or too long, asks for nothing, or asks for and against the same words.
    """
    if len(sentence) > LONGEST:
        raise AboutError(
            f"the sentence has {len(sentence)} characters; at most {LONGEST} are allowed"
        )
    tokens = _TOKEN.findall(sentence)
    parts = _Parts()
    at = 0
    while at < len(tokens):
        at = _step(tokens, at, columns, parts)
    unwanted = [text for words in parts.unwanted for text in _alternatives(words)]
    about = About(_join(parts.wanted), tuple(dict.fromkeys(unwanted)), tuple(parts.filters))
    if not (about.wanted or about.unwanted or about.filters):
        raise AboutError(
            "the sentence asks for nothing; say what the list should be about, such as "
            "'a gift for a gardener, nothing with perfume'"
        )
    _check_consistent(about)
    return about


def _step(tokens: list[str], at: int, columns: FilterColumns, parts: _Parts) -> int:
    """Reads the construct at one token into `parts`; returns the place after it."""
    lower = [token.lower() for token in tokens]
    for read in (_read_column, _read_range):
        condition, after = read(lower, at, columns, "is")
        if after > at:
            parts.filters += condition
            return after
    length = _marker(lower, at)
    if not length:
        parts.wanted.append(tokens[at])
        return at + 1
    at += length
    condition, after = _read_column(lower, at, columns, "is not")
    if after > at:
        parts.filters += condition
        return after
    stop = at
    while stop < len(tokens) and not _ends(lower, stop, at, columns):
        stop += 1
    parts.unwanted.append(tokens[at:stop])
    return stop


def _marker(words: list[str], at: int) -> int:
    """Returns the number of words of the negation at one place; 0 if there is none."""
    if tuple(words[at : at + 2]) in _NOT_MARKERS:
        return 0
    for phrase in _MARKER_WORDS:
        if tuple(words[at : at + len(phrase)]) == phrase:
            return len(phrase)
    return 0


def _ends(words: list[str], at: int, start: int, columns: FilterColumns) -> bool:
    """Whether an unwanted part that began at `start` ends before `at`."""
    if words[at] in _ENDS or (at > start and _marker(words, at)):
        return True
    return _read_column(words, at, columns, "is")[1] > at or (
        _read_range(words, at, columns, "is")[1] > at
    )


def _read_column(
    words: list[str], at: int, columns: FilterColumns, comparison: Comparison
) -> tuple[list[Filter], int]:
    """Reads `brand X`, `year 1980` or `price under 20`."""
    named = columns.named(words[at:])
    if named is None:
        return [], at
    column, length = named
    after = at + length
    while after < len(words) and words[after] in _LINKS:
        after += 1
    if column in columns.numeric:
        condition, end = _read_range(words, after, columns, comparison, column)
        if end > after:
            return condition, end
        number = number_of(words[after]) if after < len(words) else None
        return ([Filter(column, comparison, number)], after + 1) if number is not None else ([], at)
    length = columns.value(column, words[after:])
    value = " ".join(words[after : after + length])
    return ([Filter(column, comparison, value)], after + length) if length else ([], at)


def _read_range(
    words: list[str],
    at: int,
    columns: FilterColumns,
    comparison: Comparison,
    column: str | None = None,
) -> tuple[list[Filter], int]:
    """Reads `under 20` or `between 10 and 20`, for a column that is named before or after it, or implied."""
    bounds: list[tuple[str, Comparison]]
    if words[at : at + 1] == ["between"] and words[at + 2 : at + 3] == ["and"]:
        upper = words[at + 3] if at + 3 < len(words) else ""
        bounds, after = [(words[at + 1], "at least"), (upper, "at most")], at + 4
    else:
        for phrase, meaning in _RANGE_PHRASES:
            if tuple(words[at : at + len(phrase)]) == phrase and at + len(phrase) < len(words):
                bounds, after = [(words[at + len(phrase)], meaning)], at + len(phrase) + 1
                break
        else:
            return [], at
    numbers = [(number_of(text), meaning) for text, meaning in bounds]
    if after < len(words) and words[after] in _UNITS:
        after += 1
    if column is None:
        column, after = _range_column(words, after, columns)
    if column is None:
        return [], at
    filters = [Filter(column, meaning, number) for number, meaning in numbers if number is not None]
    return (filters, after) if len(filters) == len(numbers) else ([], at)


def _range_column(words: list[str], after: int, columns: FilterColumns) -> tuple[str | None, int]:
    """The column of a bare range: the one named after it, else `price`, else the only numeric one."""
    named = columns.named(words[after:])
    if named is not None and named[0] in columns.numeric:
        return named[0], after + named[1]
    prices = [name for name in columns.numeric if "price" in name.lower()]
    chosen = prices if prices else columns.numeric
    return (chosen[0] if len(chosen) == 1 else None), after


def _alternatives(words: list[str]) -> list[str]:
    """Splits an unwanted part at "or" and "and"."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word.lower() in _SPLITS:
            groups.append([])
        else:
            groups[-1].append(word)
    return [text for group in groups if (text := _join(group))]


def _join(tokens: list[str]) -> str:
    """Writes tokens as text; empty where no word of it means anything."""
    if not any(word not in _EMPTY_WORDS for token in tokens for word in words_of(token)):
        return ""
    text = re.sub(r" +(?=[,;.!?:])", "", " ".join(tokens))
    return re.sub(r"([,;.!?:])[,;.!?: ]*(?=[,;.!?:])", "", text).strip(" ,;.!?:")


def _check_consistent(about: About) -> None:
    clauses = [_meaning(clause) for clause in re.split(r"[,;.!?:]", about.wanted)]
    wanted = {words for words in [*clauses, _meaning(about.wanted)] if words}
    if any(_meaning(text) in wanted for text in about.unwanted):
        raise AboutError(
            "the sentence asks for and against the same thing; leave one of the two out"
        )
    for each in about.filters:
        opposite = Filter(each.column, "is not", each.value)
        if each.comparison == "is" and opposite in about.filters:
            raise AboutError(f"the sentence asks for and against one value of {each.column}")


def _meaning(text: str) -> frozenset[str]:
    return frozenset(words_of(text)) - _EMPTY_WORDS
