"""TextTower: history and item are read as words alone, and the log trains how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.core.files import read_json, write_json
from seqloom.core.protocols import KnownItems, NewItems, NewRows, RowsOf
from seqloom.nn.recency import RecencySum
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.config import TextTowerConfig
from seqloom.systems.sequence import DotProductScorer, SequenceSystem
from seqloom.text.prompts import item_texts, template_text
from seqloom.text.words.start import start_vectors
from seqloom.text.words.vectors import WordVectors
from seqloom.text.words.vocabulary import Bags, Vocabulary

VECTORS = "vectors"
"""Name of the only item table."""
_TEXT = "text.json"
_EPS = 1e-6


class TextTower(SequenceSystem[TextTowerConfig]):
    """Two towers: the text of an item, and the texts of a history, most recent first in weight.

    An item's vector is the weighted mean of its word vectors, scaled to length 1. A history's is the sum of
    its items' with a trained weight for each age, plus the state of a sequence encoder over them. All
    are trained on the next item, against the whole catalogue embedded again in each step. No parameter
    belongs to an item or a user, so that new items and users need nothing but their words.

    Source: Liu et al., CIKM 2023 (TASTE, arXiv 2308.14029), eq. 3 to 5: both sides are text, and the log
        trains one encoder for both.
    Differs: word vectors instead of a language model, which makes the exact softmax affordable on a CPU;
        items of a history are combined after encoding, not as one text.
    """

    name: ClassVar[str] = "texttower"
    config_class: ClassVar[type[TextTowerConfig]] = TextTowerConfig
    new_items_by = "words"
    redescribes_items: ClassVar[bool] = True
    vocabulary: Vocabulary
    template: str
    tokens: Tensor
    starts: Tensor

    def __init__(self, config: TextTowerConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = config.encoder.hidden_size
        self.words = WordVectors(0, width, config.words.dropout)
        self.register_buffer("tokens", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("starts", torch.zeros(sizes.num_items, dtype=torch.int64))
        self.recency = RecencySum(config.encoder.max_len, config.decay, config.history_dropout)
        self.gate = nn.Parameter(torch.zeros(width))
        self.log_scale = nn.Parameter(torch.tensor(1 / config.temperature).log())
        if config.query == "recency":
            self.gate.requires_grad_(False)
            self.encoder.requires_grad_(False)

    def initialise(self, data: TrainingData) -> None:
        """Splits the item texts into words and draws or reads the first word vectors.

        Raises:
            ConfigError: the items have no text, or the words have no pretrained vectors.
            AssetError: the tokenizer's model is missing.
        """
        settings = self.config.words
        self.template = template_text(settings.template, "item")
        texts = self._texts(data.dataset.items)
        self.vocabulary = Vocabulary.build(
            texts,
            settings.tokenizer,
            settings.min_count,
            pairs=settings.pairs,
            progress=data.progress,
        )
        bags = self.vocabulary.bags(texts)
        self._resize(self.vocabulary.size, len(bags.tokens))
        self.tokens.copy_(bags.tokens)
        self.starts.copy_(bags.starts)
        with torch.no_grad():
            width = self.config.encoder.hidden_size
            self.words.vectors.copy_(
                start_vectors(
                    self.vocabulary, settings.start, settings.tokenizer, width, data.progress
                )
            )

    @property
    def uses_language_model(self) -> bool:
        """Whether the words started from the token vectors of a language model."""
        return self.config.words.start == "pretrained"

    @property
    def reads_text(self) -> bool:
        """True; see `System`."""
        return True

    @property
    def fixed_entries(self) -> frozenset[str]:
        """The words of the items."""
        return frozenset({"tokens", "starts"})

    def item_vectors(self) -> Tensor:
        """Returns the vectors of the items' texts, of length 1. Shapes: [N, D]."""
        vectors: Tensor = self.words(Bags(self.tokens, self.starts))
        return vectors

    def states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Encodes histories as directions, times the inverse temperature.

        Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, L, D].
        """
        return self.scaled(self.directions(items, lengths, vectors))

    def directions(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Encodes histories as the direction of their recency-weighted sum, plus the gated encoder's state.

        Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, L, D].
        """
        x = self.embed(items, vectors) * (items > 0)[..., None]
        direction = F.normalize(self.recency(x), dim=-1, eps=_EPS)
        if self.config.query == "both":
            encoded = self.encoder(self.encoder.enter(x, lengths), lengths)
            direction = direction + self.gate * encoded
        return direction

    def scaled(self, directions: Tensor) -> Tensor:
        """Gives directions the length of the inverse temperature. Shapes: [..., D] -> [..., D]."""
        return F.normalize(directions, dim=-1, eps=_EPS) * self.log_scale.exp()

    def item_tables(self) -> dict[str, Tensor]:
        """Returns the item vectors; see `ExtendsCatalogue`. Shapes: [N, D]."""
        with torch.inference_mode():
            return {VECTORS: self.item_vectors()}

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """Returns a function that reads any text as the training read its own; see `ExtendsCatalogue`."""

        def rows(new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
            return NewRows({VECTORS: self.vectors_of(new.items)})

        return rows

    @torch.inference_mode()
    def vectors_of(self, items: pa.Table) -> Tensor:
        """Returns the vectors of any items from their texts. Shapes: M rows -> [M, D]."""
        bags = self.vocabulary.bags(self._texts(items))
        device = self.words.vectors.device
        vectors: Tensor = self.words(Bags(bags.tokens.to(device), bags.starts.to(device)))
        return vectors

    def scorer_over(self, tables: Mapping[str, Tensor]) -> DotProductScorer:
        """Returns a scorer over longer tables; see `ExtendsCatalogue`."""
        return DotProductScorer(self, tables[VECTORS])

    def write_files(self, folder: Path) -> None:
        """Writes tokenizer, words and the text template."""
        self.vocabulary.save(folder)
        write_json(folder / _TEXT, {"template": self.template})

    def read_files(self, folder: Path) -> None:
        """Reads the files of `write_files`."""
        self.vocabulary = Vocabulary.load(folder)
        self.template = str(read_json(folder / _TEXT, "text template of a run")["template"])

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """Makes room for the words of a state before it is loaded, also as a part of another system."""
        words, tokens = (state_dict.get(f"{prefix}{name}") for name in ("words.vectors", "tokens"))
        if words is not None and tokens is not None:
            self._resize(len(words), len(tokens))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _texts(self, items: pa.Table) -> list[str]:
        return [text or "" for text in item_texts(items, self.template).texts]

    def _resize(self, size: int, num_tokens: int) -> None:
        """Makes room for V words and M words of all texts, if there is another number of them."""
        if len(self.words.vectors) != size:
            self.words.resize(size)
        if len(self.tokens) != num_tokens:
            self.tokens = self.tokens.new_zeros(num_tokens)
