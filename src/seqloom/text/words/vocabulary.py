"""The words of a catalogue: a tokenizer, and the tokens that get a vector of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from seqloom.core.damage import reading
from seqloom.core.errors import AssetError
from seqloom.core.files import read_json, write_json
from seqloom.core.progress import SILENT, Progress
from seqloom.hub.model_folders import model_folder

UNKNOWN = "[UNK]"
CATALOGUE = "catalogue"
"""Name of the tokenizer that is made from the item texts."""
WORDS = "words.json"
"""File of the rows of tokens and of the pairs."""
_TOKENIZER = "tokenizer.json"
_REMEDY = "train again"


@dataclass(frozen=True)
class Bags:
    """The words of N texts, concatenated."""

    tokens: Tensor
    """[M] int64, rows of the word vectors."""
    starts: Tensor
    """[N] int64, the first token of each text."""

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def counts(self) -> Tensor:
        """[N] int64, the number of words of each text."""
        ends = torch.cat([self.starts[1:], torch.tensor([len(self.tokens)])])
        return ends - self.starts


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and the tokens and pairs of neighbouring tokens that have vectors of their own.

    Row 0 is shared by all tokens that are too rare to have a vector of their own, and by those that the
    catalogue does not contain. Rare pairs have none.
    """

    tokenizer: Any
    """A `tokenizers.Tokenizer`."""
    rows: Tensor
    """[T] int64, the row of each token of the tokenizer."""
    pairs: Tensor
    """[P] int64, ascending, first token * T + second token of each pair; their rows follow the tokens'."""

    @property
    def num_words(self) -> int:
        """Number of rows of tokens."""
        return int(self.rows.max()) + 1

    @property
    def size(self) -> int:
        """V, the number of rows of tokens and pairs."""
        return self.num_words + len(self.pairs)

    @classmethod
    def build(
        cls,
        texts: Sequence[str],
        name: str,
        min_count: int,
        *,
        pairs: bool = False,
        progress: Progress = SILENT,
    ) -> Self:
        """Builds the vocabulary of item texts.

        Args:
            name: `catalogue` for a tokenizer of lower-case words of the texts themselves, else a model
                whose tokenizer is used.
            min_count: the number of texts that contain a token or pair with a vector of its own.
            pairs: whether pairs have vectors.

        Raises:
            AssetError: the model does not exist or has no fast tokenizer.
        """
        tokenizer = _words_of(texts) if name == CATALOGUE else _read(model_folder(name, progress))
        tokens, text = _flat(_encode(tokenizer, texts))
        counts = _text_counts(tokens, text, tokenizer.get_vocab_size())
        kept = counts >= min_count
        kept[_unknown(tokenizer)] = False
        rows = torch.where(kept, kept.cumsum(0), 0)
        found = torch.zeros(0, dtype=torch.int64)
        if pairs:
            keys, within = _pair_keys(tokens, text, len(rows))
            found, number = keys.unique(return_inverse=True)
            found = found[_text_counts(number, within, len(found)) >= min_count]
        return cls(tokenizer, rows, found)

    def bags(self, texts: Sequence[str]) -> Bags:
        """Splits texts into words and pairs; a text without words is one unknown word."""
        ids = [row or [_unknown(self.tokenizer)] for row in _encode(self.tokenizer, texts)]
        tokens, text = _flat(ids)
        rows = self.rows[tokens]
        if len(self.pairs):
            keys, within = _pair_keys(tokens, text, len(self.rows))
            place = torch.searchsorted(self.pairs, keys).clamp(max=len(self.pairs) - 1)
            known = self.pairs[place] == keys
            rows = torch.cat([rows, self.num_words + place[known]])
            text = torch.cat([text, within[known]])
            order = text.argsort(stable=True)
            rows, text = rows[order], text[order]
        lengths = torch.bincount(text, minlength=len(ids))
        return Bags(rows, lengths.cumsum(0) - lengths)

    def save(self, folder: Path) -> None:
        """Writes tokenizer, rows and pairs."""
        self.tokenizer.save(str(folder / _TOKENIZER))
        write_json(folder / WORDS, {"rows": self.rows.tolist(), "pairs": self.pairs.tolist()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads the files of `save`.

        Raises:
            ArtefactError: a file is missing or damaged.
        """
        raw = read_json(folder / WORDS, "words and their rows")
        with reading(folder / WORDS, "words and their rows", _REMEDY):
            rows, pairs = (torch.tensor(raw[name], dtype=torch.int64) for name in ("rows", "pairs"))
        with reading(folder / _TOKENIZER, "a tokenizer", _REMEDY):
            return cls(_read(folder), rows, pairs)


def _flat(ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Concatenates rows; returns the tokens [M] and the number of the row of each [M]."""
    lengths = torch.tensor([len(row) for row in ids], dtype=torch.int64)
    tokens = torch.tensor([token for row in ids for token in row], dtype=torch.int64)
    return tokens, torch.repeat_interleave(torch.arange(len(ids)), lengths)


def _text_counts(tokens: Tensor, text: Tensor, size: int) -> Tensor:
    """Counts the texts that contain each of `size` tokens. Shapes: [M], [M] -> [size]."""
    distinct = (text * max(size, 1) + tokens).unique()
    return torch.bincount(distinct % max(size, 1), minlength=size)


def _pair_keys(tokens: Tensor, text: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Returns the keys of neighbouring tokens within a text, and their texts. Shapes: [M] -> [P'], [P']."""
    inside = text[:-1] == text[1:]
    return (tokens[:-1] * num_tokens + tokens[1:])[inside], text[:-1][inside]


def _words_of(texts: Sequence[str]) -> Any:
    """Builds a tokenizer with one token for each lower-case word and each run of punctuation."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    plain = Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    plain.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    words = {
        word
        for text in texts
        for word, _ in plain.pre_tokenizer.pre_tokenize_str(plain.normalizer.normalize_str(text))
    }
    numbered = {word: number for number, word in enumerate([UNKNOWN, *sorted(words - {UNKNOWN})])}
    plain.model = models.WordLevel(numbered, unk_token=UNKNOWN)
    return plain


def _read(folder: Path) -> Any:
    from tokenizers import Tokenizer

    file = folder / _TOKENIZER
    if not file.exists():
        raise AssetError(
            f"{folder} has no {_TOKENIZER}, so its words cannot be used; take a model with a fast tokenizer"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain exceptions
        raise AssetError(f"{file} cannot be read: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return [row.ids for row in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _unknown(tokenizer: Any) -> int:
    """Returns the token of unknown words; token 0 of a tokenizer that can write any text."""
    for name in (UNKNOWN, "<unk>"):
        if (token := tokenizer.token_to_id(name)) is not None:
            return int(token)
    return 0
