"""The words that IDs are made of, and an automaton that accepts sequences of whole words only."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.llm.generation.prefix_tree import PAD, PrefixTree
from seqloom.llm.generation.text_model import END

_MOST_CHARACTERS = 20_000


def split_words(text: str) -> list[str]:
    """Splits a text into lower-case words: runs of letters and their marks, in any script.

    Reads the first 20,000 characters.
    """
    folded = unicodedata.normalize("NFKC", text[:_MOST_CHARACTERS]).lower()
    letters = (c if c.isalpha() or unicodedata.category(c)[0] == "M" else " " for c in folded)
    return [word for word in "".join(letters).split() if any(c.isalpha() for c in word)]


def collect_words(
    texts: Iterable[str], *, shortest: int = 2, longest: int = 20, min_count: int = 1
) -> list[str]:
    """Returns the distinct words of `texts` in alphabetical order, independent of the order of the texts.

    Leaves out words of fewer than `shortest` or more than `longest` letters, and words that occur in fewer
    than `min_count` texts.
    """
    counts = Counter(word for text in texts for word in set(split_words(text)))
    return sorted(
        word
        for word, count in counts.items()
        if count >= min_count and shortest <= len(word) <= longest
    )


@dataclass(frozen=True)
class Lexicon:
    """Words with their tokens: output number 0 is the end mark, the others the words' tokens, ascending."""

    words: tuple[str, ...]
    pieces: tuple[tuple[int, ...], ...]
    """The output numbers of each word."""
    output_tokens: Tensor
    """[V'] int64: the tokenizer's token of each output number."""

    @classmethod
    def build(
        cls,
        words: Sequence[str],
        tokenizer: Any,
        *,
        most_pieces: int = 4,
        output_tokens: Tensor | None = None,
    ) -> Self:
        """Tokenises `words`, each as inside a text, and keeps those that decode unambiguously.

        Leaves out words of more than `most_pieces` tokens, with an unknown token, with an inner token
        that another word begins with, or with a token outside `output_tokens` where these are given.

        Raises:
            ConfigError: no word remains.
        """
        tokens = [tuple(row) for row in _encode_words(words, tokenizer)] if words else []
        known = None if output_tokens is None else set(output_tokens.tolist())
        fits = {
            word: row
            for word, row in zip(words, tokens, strict=True)
            if 0 < len(row) <= most_pieces
            and tokenizer.unk_token_id not in row
            and (known is None or known.issuperset(row))
        }
        # No inner token may begin a word: a first token then always starts a new word.
        begins = {row[0] for row in fits.values()}
        fits = {word: row for word, row in fits.items() if not begins.intersection(row[1:])}
        # Of several words with the same tokens the first one stays.
        distinct = {row: word for word, row in reversed(fits.items())}
        fits = {word: row for word, row in fits.items() if distinct[row] == word}
        if not fits:
            raise ConfigError(
                f"none of {len(words)} words can be used for IDs with this tokenizer; give the items "
                "a text, or choose another tokenizer"
            )
        if output_tokens is None:
            used = sorted({token for row in fits.values() for token in row})
            output_tokens = torch.tensor([tokenizer.eos_token_id, *used])
        number = {token: place for place, token in enumerate(output_tokens.tolist())}
        pieces = tuple(tuple(number[token] for token in row) for row in fits.values())
        return cls(tuple(fits), pieces, output_tokens)

    def text(self, numbers: Sequence[int]) -> str:
        """Decodes a sequence of output numbers up to its end mark.

        Raises:
            ValueError: the sequence does not consist of the lexicon's words.
        """
        words, rest = [], list(numbers)
        if END in rest:
            rest = rest[: rest.index(END)]
        rest = [number for number in rest if number != PAD]
        while rest:
            size = next((n for n in range(len(rest), 0, -1) if tuple(rest[:n]) in self._word), 0)
            if not size:
                raise ValueError(f"{list(numbers)} is not made of whole words")
            words.append(self._word[tuple(rest[:size])])
            rest = rest[size:]
        return " ".join(words)

    def numbers(self, text: str) -> list[int] | None:
        """Encodes a text of the lexicon's words; None where it holds another word."""
        rows = [self._pieces.get(word) for word in text.split()]
        return None if None in rows else [number for row in rows if row for number in row]

    @property
    def _word(self) -> dict[tuple[int, ...], str]:
        return _cached(self, "_by_pieces", lambda: dict(zip(self.pieces, self.words, strict=True)))

    @property
    def _pieces(self) -> dict[str, tuple[int, ...]]:
        return _cached(self, "_by_word", lambda: dict(zip(self.words, self.pieces, strict=True)))


def _encode_words(words: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Tokenises each word as inside a text, after a space."""
    spaced = [f" {word}" for word in words]
    rows: list[list[int]] = tokenizer(spaced, add_special_tokens=False)["input_ids"]
    return rows


@dataclass(frozen=True)
class WordAutomaton:
    """Automaton of the token sequences that consist of the lexicon's words.

    A state is a node of the words' prefix tree: 0 before the first word, else inside or at the end of a word.
    """

    word_end: Tensor
    """[nodes] bool: whether a word ends here."""
    need: Tensor
    """[nodes] int64: smallest number of tokens until a word ends."""
    first_child: Tensor
    """[nodes] int64: first child that continues the word."""
    num_children: Tensor
    """[nodes] int64: number of children that continue the word."""
    token: Tensor
    """[nodes] int64: the token that leads to the node."""
    keys: Tensor
    """[nodes - 1] int64, ascending: parent * V' + token of nodes 1, 2, ..."""
    start: Tensor
    """[V'] int64: the node after a first token, 0 where no word begins with the token."""
    widest: int
    """Largest number of children that continue a word."""

    @classmethod
    def build(cls, lexicon: Lexicon) -> Self:
        """Builds the automaton of a lexicon."""
        longest = max(map(len, lexicon.pieces)) + 1
        rows = np.full((len(lexicon.pieces), longest), PAD, dtype=np.int64)
        for number, pieces in enumerate(lexicon.pieces):
            rows[number, : len(pieces)] = pieces
            rows[number, len(pieces)] = END
        tree = PrefixTree.build(torch.from_numpy(rows))
        outputs, nodes = len(lexicon.output_tokens), len(tree.token)
        inner = tree.num_children > 0
        # END is the smallest output number, so an END child is a node's first child.
        word_end = inner & (tree.token[tree.first_child.clamp(max=nodes - 1)] == END)
        parent = torch.repeat_interleave(torch.arange(nodes), tree.num_children)
        # Propagate the distance to the next word end from children to parents, one level a pass.
        need = torch.where(word_end, 0, nodes)
        for _ in range(longest):
            through = torch.full_like(need, nodes).scatter_reduce(0, parent, need[1:] + 1, "amin")
            need = torch.minimum(need, through)
        num_children = tree.num_children - word_end.long()
        start = torch.zeros(outputs, dtype=torch.int64)
        first = torch.arange(1, 1 + int(tree.num_children[0]))
        start[tree.token[first]] = first
        return cls(
            word_end=word_end,
            need=need,
            first_child=tree.first_child + word_end.long(),
            num_children=num_children,
            token=tree.token,
            keys=parent * outputs + tree.token[1:],
            start=start,
            widest=int(num_children[1:].max()),
        )

    def to(self, device: torch.device) -> Self:
        """The same automaton on `device`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        return type(self)(**moved)

    def allowed(self, nodes: Tensor, room: int) -> Tensor:
        """Returns the tokens, END excluded, after which a word can still end within `room` tokens.

        Shapes: nodes [M] -> [M, V'] bool.
        """
        # At a word boundary any word that fits may begin ...
        starts = (self.start > 0) & (self.need[self.start] < room)
        between = self.word_end[nodes] | (nodes == 0)
        mask = between[:, None] & starts
        # ... and an unfinished word may continue with its children in the tree.
        if self.widest:
            offset = torch.arange(self.widest, device=nodes.device)
            inside = (offset < self.num_children[nodes][:, None]) & (nodes > 0)[:, None]
            child = torch.where(inside, self.first_child[nodes][:, None] + offset, 0)
            row, column = torch.nonzero(inside & (self.need[child] < room), as_tuple=True)
            mask[row, self.token[child[row, column]]] = True
        return mask

    def advance(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """Returns the state after an allowed token. Shapes: [M], [M] -> [M]."""
        key = nodes * len(self.start) + tokens
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        continues = (self.keys[place] == key) & (nodes > 0)  # else the token begins a new word
        return torch.where(continues, place + 1, self.start[tokens])


def _cached(owner: object, name: str, make: Any) -> Any:
    """Returns an attribute of a frozen object, computed on first use."""
    if name not in owner.__dict__:
        object.__setattr__(owner, name, make())
    return owner.__dict__[name]
