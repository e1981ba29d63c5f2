"""The generator's input for an item, and the item's own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from seqloom.llm.generation.lexicon import Lexicon, split_words
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import END
from seqloom.text.prompts import WITHOUT_TEXT, item_texts, text_columns

_CHARACTERS_PER_TOKEN = 16


def read_texts(items: pa.Table, template: str) -> list[str]:
    """Returns a text for each row: by a template, or with `values` the joined values of the columns.

    Raises:
        ConfigError: the items have no text columns, or the template does not fit them.
    """
    if template != "values":
        return [text or "" for text in item_texts(items, template).texts]
    columns = [items.column(name).to_pylist() for name in text_columns(items)]
    rows = (". ".join(str(value) for value in row if value) for row in zip(*columns, strict=True))
    return [text or WITHOUT_TEXT for text in rows]


class ItemPrompts:
    """Tokens of the generator's prompt for each item."""

    def __init__(
        self, texts: Sequence[str], prompt: tuple[str, str], tokenizer: Any, most_tokens: int
    ) -> None:
        cut = most_tokens * _CHARACTERS_PER_TOKEN
        # Tokenizers refuse halves of surrogate pairs.
        valid = (text[:cut].encode("utf-8", "replace").decode() for text in texts)
        plain = [" ".join(text.split()) or WITHOUT_TEXT for text in valid]
        before, after = (_encode([part], tokenizer)[0] if part else [] for part in prompt)
        # A text of nothing but what the tokenizer drops still leaves the prompt's own words.
        self.rows = [before + row[:most_tokens] + after for row in _encode(plain, tokenizer)]
        self.rows = [row or [tokenizer.eos_token_id] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, numbers: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Returns tokens and mask of some rows. Shapes: -> [B, P], [B, P]."""
        rows = [self.rows[number] for number in numbers]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
        mask = tokens != PAD
        return tokens.clamp(min=0).to(device), mask.to(device)


@dataclass(frozen=True)
class OwnWords:
    """The lexicon words in each item's text, by their places in the lexicon."""

    rows: tuple[tuple[int, ...], ...]
    """Ascending places of each item."""
    lexicon: Lexicon

    @classmethod
    def of(cls, texts: Sequence[str], lexicon: Lexicon) -> OwnWords:
        """Finds the lexicon words of every text."""
        place = {word: i for i, word in enumerate(lexicon.words)}
        rows = (sorted({place[w] for w in split_words(text) if w in place}) for text in texts)
        return cls(tuple(tuple(row) for row in rows), lexicon)

    def token_mask(self, numbers: Sequence[int], device: torch.device) -> Tensor:
        """Marks the tokens of the items' own words. Shapes: -> [B, V'] bool."""
        mask = torch.zeros(len(numbers), len(self.lexicon.output_tokens), dtype=torch.bool)
        for row, number in enumerate(numbers):
            mask[row, [piece for w in self.rows[number] for piece in self.lexicon.pieces[w]]] = True
        return mask.to(device)

    def tags(self, count: int) -> Tensor:
        """Returns the targets of tagging: each item's `count` commonest words, commonest first.

        Words of more than a fifth of the items say too little and come last. Items without a word of the
        lexicon have a row of PAD.

        Shapes: -> [N, T] output numbers: words, the end mark, then PAD.
        """
        items = Counter(word for row in self.rows for word in row)
        often = len(self.rows) / 5
        targets = []
        for row in self.rows:
            ranked = sorted(row, key=lambda w: (items[w] > often, -items[w], w))[:count]
            pieces = [piece for word in ranked for piece in self.lexicon.pieces[word]]
            targets.append([*pieces, END] if pieces else [])
        width = max(1, max(map(len, targets)))
        return torch.tensor([row + [PAD] * (width - len(row)) for row in targets])


def _encode(texts: list[str], tokenizer: Any) -> list[list[int]]:
    rows: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return rows
