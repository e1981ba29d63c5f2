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
_TOKENIZER, _ROWS = "tokenizer.json", "words.json"
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
    """A tokenizer and the row of each of its tokens among the word vectors.

    Row 0 is shared by all tokens that are too rare to have a vector of their own, and by those that the
    catalogue does not contain.
    """

    tokenizer: Any
    """A `tokenizers.Tokenizer`."""
    rows: Tensor
    """[T] int64, the row of each token of the tokenizer."""

    @property
    def size(self) -> int:
        """V, the number of word vectors."""
        return int(self.rows.max()) + 1

    @classmethod
    def build(
        cls, texts: Sequence[str], name: str, min_count: int, progress: Progress = SILENT
    ) -> Self:
        """Builds the vocabulary of item texts.

        Args:
            name: `catalogue` for a tokenizer of lower-case words of the texts themselves, else a model
                whose tokenizer is used.
            min_count: the number of texts that contain a token with a vector of its own.

        Raises:
            AssetError: the model does not exist or has no fast tokenizer.
        """
        tokenizer = _words_of(texts) if name == CATALOGUE else _read(model_folder(name, progress))
        rows = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.int64)
        for ids in _encode(tokenizer, texts):
            rows[list(set(ids))] += 1
        kept = rows >= min_count
        kept[_unknown(tokenizer)] = False
        return cls(tokenizer, torch.where(kept, kept.cumsum(0), 0))

    def bags(self, texts: Sequence[str]) -> Bags:
        """Splits texts into words; a text without words is one unknown word."""
        ids = [row or [_unknown(self.tokenizer)[0]] for row in _encode(self.tokenizer, texts)]
        lengths = torch.tensor([len(row) for row in ids], dtype=torch.int64)
        tokens = torch.tensor([token for row in ids for token in row], dtype=torch.int64)
        return Bags(self.rows[tokens], lengths.cumsum(0) - lengths)

    def save(self, folder: Path) -> None:
        """Writes tokenizer and rows."""
        self.tokenizer.save(str(folder / _TOKENIZER))
        write_json(folder / _ROWS, {"rows": self.rows.tolist()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads the files of `save`.

        Raises:
            ArtefactError: a file is missing or damaged.
        """
        raw = read_json(folder / _ROWS, "words of a run")
        with reading(folder / _ROWS, "the words of a run", _REMEDY):
            rows = torch.tensor(raw["rows"], dtype=torch.int64)
        with reading(folder / _TOKENIZER, "a tokenizer", _REMEDY):
            return cls(_read(folder), rows)


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


def _unknown(tokenizer: Any) -> list[int]:
    """Returns the token of unknown words; token 0 of a tokenizer that can write any text."""
    for name in (UNKNOWN, "<unk>"):
        if (token := tokenizer.token_to_id(name)) is not None:
            return [token]
    return [0]
