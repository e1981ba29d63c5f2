"""Makes an ID unused by appending words."""

from __future__ import annotations

import hashlib

from seqloom.core.errors import ConfigError
from seqloom.llm.generation.lexicon import Lexicon

Row = tuple[int, ...]


class FurtherWords:
    """Appends words of a lexicon to IDs that are taken, in an order that the item's text decides."""

    def __init__(
        self, lexicon: Lexicon, longest: int, taken: set[Row], most_pieces: int | None = None
    ) -> None:
        """`longest` is the largest number of tokens; an ID that is made is added to `taken`.

        Args:
            most_pieces: largest number of tokens of a word to append; shorter ones are never left out.
        """
        self._lexicon, self._longest, self._taken = lexicon, longest, taken
        narrowest = min(map(len, lexicon.pieces))
        most = max(narrowest, most_pieces or max(map(len, lexicon.pieces)))
        self._pieces = [pieces for pieces in lexicon.pieces if len(pieces) <= most]
        self._tried: dict[tuple[Row, int, int], int] = {}

    def extend(self, row: Row, text: str) -> Row:
        """Appends the first combination of words that makes the ID unused, and shortens it if need be.

        Raises:
            ConfigError: all combinations are taken.
        """
        pieces, longest = self._pieces, self._longest
        # Start at a word that the text decides, so that alike IDs get different words.
        start = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace")).digest()[:8], "big")
        start %= len(pieces)
        widest, narrowest = max(map(len, pieces)), min(map(len, pieces))
        for count in range(1, longest // narrowest + 1):
            base = self.shorten(row, max(0, longest - count * widest))
            tried = self._tried.get((base, count, start), 0)
            for number in range(tried, len(pieces) ** count):
                places = (number // len(pieces) ** place for place in range(count))
                longer = sum((pieces[(start + p) % len(pieces)] for p in places), base)
                if longer not in self._taken and len(longer) <= longest:
                    self._tried[base, count, start] = number + 1
                    self._taken.add(longer)
                    return longer
        raise ConfigError(
            f"{len(pieces)} words are too few to name {len(self._taken) + 1} items with at most "
            f"{longest} tokens each; raise ids.longest, or give the items more text"
        )

    def shorten(self, row: Row, most: int) -> Row:
        """Returns the first words of an ID with at most `most` tokens in total."""
        kept: Row = ()
        for word in self._lexicon.text(row).split():
            pieces = tuple(self._lexicon.numbers(word) or ())
            if len(kept) + len(pieces) > most:
                break
            kept = (*kept, *pieces)
        return kept
