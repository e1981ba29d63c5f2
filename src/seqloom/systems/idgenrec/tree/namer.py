"""Names items by their places in a tree."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from seqloom.core.protocols import NamingStatistics
from seqloom.llm.generation.lexicon import Lexicon
from seqloom.systems.idgenrec.config import TextualIDConfig
from seqloom.systems.idgenrec.further_words import FurtherWords, Row
from seqloom.systems.idgenrec.ids import id_table
from seqloom.systems.idgenrec.item_texts import OwnWords
from seqloom.systems.idgenrec.tree.name_tree import NameTree

_TRIES = 60
"""Number of combinations of an item's own words of each size that are tried."""


class TreeNamer:
    """Gives each item a name of at most `ids.max_tokens` tokens: the words of its path, then own words.

    Of the item's own words, those that more items of its leaf have come first, then those that more items
    of the catalogue have. The first unused combination of fewest words is taken; fillers take part where
    the others give none, and then a word of the lexicon is appended.

    Source: GRAM (Lee et al., ACL 2025, arXiv 2506.01673), section 3.1: items are named by a hierarchy of
        clusters, of which each level has a word of its clusters' texts.
    Differs: the clusters are balanced and those of an own space (`build_space`); words of siblings differ;
        names end with the item's own words instead of a number of clusters.
    """

    def __init__(
        self, tree: NameTree, known: Lexicon, lexicon: Lexicon, config: TextualIDConfig
    ) -> None:
        """`known` is the lexicon that the tree was built with, `lexicon` that of the names."""
        self._tree, self._known, self._lexicon = tree, known, lexicon
        self._config = config

    def make(
        self, texts: Sequence[str], item_ids: Sequence[str], taken: Sequence[Row] = ()
    ) -> tuple[Tensor, NamingStatistics]:
        """Names items; `taken` names (without end mark) are not given again.

        Raises:
            ConfigError: the lexicon has too few words to name so many items.

        Shapes: -> [N, longest + 1] output numbers: words, the end mark, then PAD.
        """
        leaves = self._tree.place(texts, item_ids, self._known).tolist()
        paths = self._tree.path_words(self._known)
        known = self._tree.counts(self._known)
        ranked = self._rank_words(texts, leaves, known)
        used = set(taken)
        further = FurtherWords(self._lexicon, self._config.most_tokens, used, most_pieces=1)
        rows: dict[int, Row] = {}
        extended = 0
        for item in sorted(range(len(texts)), key=lambda i: (texts[i], item_ids[i])):
            path = self._row(paths[leaves[item]])
            own = [word for word in ranked[item] if word not in paths[leaves[item]]]
            telling = [word for word in own if not self._tree.is_filler(word, known.get(word, 0))]
            candidates = itertools.chain(
                self._candidates(path, telling), self._candidates(path, own)
            )
            row = next((row for row in candidates if row not in used), None)
            if row is None:
                extended += 1
                row = further.extend(path + self._row(own[:1]), texts[item])
            used.add(row)
            rows[item] = row
        table = id_table([rows[item] for item in range(len(texts))], self._config.longest)
        return table, NamingStatistics(len(texts) - extended, 0, extended)

    def _rank_words(
        self, texts: Sequence[str], leaves: Sequence[int], known: Mapping[str, int]
    ) -> list[list[str]]:
        """Returns the words of each item, those that name it best first."""
        lexicon, own = self._lexicon, OwnWords.of(texts, self._lexicon)
        words = [[lexicon.words[place] for place in row] for row in own.rows]
        in_leaf: dict[int, Counter[str]] = {leaf: Counter() for leaf in leaves}
        for row, leaf in zip(words, leaves, strict=True):
            in_leaf[leaf].update(row)
        return [
            sorted(row, key=lambda word: (-in_leaf[leaf][word], -known.get(word, 0), word))
            for row, leaf in zip(words, leaves, strict=True)
        ]

    def _candidates(self, path: Row, own: Sequence[str]) -> Iterator[Row]:
        """Yields names of few own words first, and of words that name the item best."""
        for count in range(1, len(own) + 1):
            for words in itertools.islice(itertools.combinations(own, count), _TRIES):
                row = path + self._row(words)
                if len(row) <= self._config.most_tokens:
                    yield row

    def _row(self, words: Sequence[str]) -> Row:
        """Returns the tokens of words; a word that the lexicon lacks is left out."""
        return tuple(n for word in words for n in self._lexicon.numbers(word) or ())
