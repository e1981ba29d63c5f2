"""Steers the lists of a run by a sentence: nearness of item texts to it, and filters on their columns.

score = z(system) + weight * (z(cos(item, wanted)) - max over unwanted of max(0, z(cos(item, unwanted)))),

where z scales to mean 0 and standard deviation 1 over the catalogue, so that one weight means the same to
every system and every text encoder. An unwanted text pushes down the items nearer to it than the mean
and leaves the order of the others: without the lower bound they would be ranked by how unlike it they are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.data.store import Dataset
from seqloom.inference.ranker import standardise
from seqloom.runs.trained_run import TrainedRun
from seqloom.text.about import About, AboutError, parse_about
from seqloom.text.filters import Filter, FilterColumns
from seqloom.text.item_text import ItemText
from seqloom.text.prompts import naming_column
from seqloom.text.store import load_embeddings

DEFAULT_WEIGHT = 1.0
_KEPT_SENTENCES = 1024
_LaterItem = tuple[str, tuple[str, ...]]
"""Id and attributes of an item that was added after training."""


class FollowedSentence(Config):
    """How a sentence was understood."""

    wanted: str = ""
    """The part whose meaning draws items up; empty if there is none."""
    unwanted: list[str] = Field(default_factory=list)
    """The parts whose meaning pushes items down."""
    filters: list[str] = Field(default_factory=list)
    """The conditions that every item of the list meets."""
    weight: float
    """Standard deviations of the system's score that one of the sentence's is worth."""


@dataclass(frozen=True)
class Steered:
    """A sentence, ready to be added to scores."""

    steering: Tensor
    """[N], minus infinity where a filter takes the item out."""
    followed: FollowedSentence


class Steering:
    """Turns sentences into steering of one catalogue.

    `items` describes the catalogue (`item_id` and text columns); `vectors` [N, E] are the embeddings of its
    rows by `item_text`, whose encoder reads the sentences too.
    """

    def __init__(self, item_text: ItemText, vectors: Tensor, items: pa.Table) -> None:
        self._item_text = item_text
        self._vectors = _unit(vectors)
        self._names = _text_columns(items)
        self._columns = FilterColumns(
            {name: items.column(name).to_pylist() for name in self._names}, naming_column(items)
        )
        self._sentences: OrderedDict[str, Tensor] = OrderedDict()
        self._later: dict[_LaterItem, Tensor] = {}
        self._lock = threading.Lock()

    @property
    def columns(self) -> list[str]:
        """The columns that filters can be set on."""
        return [*self._columns.numeric, *self._columns.short]

    def follow(
        self,
        sentence: str,
        weight: float = DEFAULT_WEIGHT,
        later: Sequence[tuple[str, Mapping[str, str]]] = (),
    ) -> Steered:
        """Reads a sentence and computes its steering.

        Args:
            later: ids and attributes of items that stand behind those of the run.

        Raises:
            AboutError: the sentence is empty or contradictory, or no item meets its filters.
            EmbeddingError: the text encoder failed.

        Shapes: M later items -> steering [N + M].
        """
        check_weight(weight)
        about = parse_about(sentence, self._columns)
        nearness = self._nearness(about, self._with_later(later))
        allowed = self._allowed(about.filters, [attributes for _, attributes in later])
        steering = (weight * nearness).masked_fill(~allowed, -torch.inf)
        followed = FollowedSentence(
            wanted=about.wanted,
            unwanted=list(about.unwanted),
            filters=[str(each) for each in about.filters],
            weight=weight,
        )
        return Steered(steering, followed)

    def _nearness(self, about: About, vectors: Tensor) -> Tensor:
        """Shapes: vectors [N, E] -> [N]."""
        texts = [*([about.wanted] if about.wanted else []), *about.unwanted]
        if not texts:
            return torch.zeros(len(vectors))
        nearness = standardise(self._encode(texts) @ vectors.t())  # [texts, N]
        near = nearness[0] if about.wanted else torch.zeros(len(vectors))
        if about.unwanted:
            near = near - nearness[-len(about.unwanted) :].amax(0).clamp(min=0)
        return near

    def _allowed(self, filters: Sequence[Filter], later: Sequence[Mapping[str, str]]) -> Tensor:
        allowed = torch.ones(len(self._vectors) + len(later), dtype=torch.bool)
        for each in filters:
            allowed &= self._columns.mask(each, later)
            if not bool(allowed.any()):
                raise AboutError(
                    f"no item of the catalogue meets the sentence's conditions on {each.column}"
                )
        return allowed

    def _encode(self, texts: Sequence[str]) -> Tensor:
        """Encodes sentences, each once as long as it is remembered. Shapes: -> [texts, E]."""
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._sentences]
            if new:
                vectors = _unit(self._item_text.encode(new))
                self._sentences.update(zip(new, vectors, strict=True))
            rows = torch.stack([self._sentences[text] for text in texts])
            for text in texts:
                self._sentences.move_to_end(text)
            while len(self._sentences) > _KEPT_SENTENCES:
                self._sentences.popitem(last=False)
        return rows

    def _with_later(self, later: Sequence[tuple[str, Mapping[str, str]]]) -> Tensor:
        """The vectors of all items; those of later ones are computed once. Shapes: -> [N + M, E]."""
        if not later:
            return self._vectors
        keys = [
            (item, tuple(attributes.get(n, "") for n in self._names)) for item, attributes in later
        ]
        with self._lock:
            new = [key for key in dict.fromkeys(keys) if key not in self._later]
            if new:
                cells = zip(*(values for _, values in new), strict=True)
                columns = dict(zip(self._names, map(list, cells), strict=True))
                vectors = self._item_text.embed(
                    pa.table({"item_id": [i for i, _ in new], **columns})
                )
                self._later.update(zip(new, _unit(vectors), strict=True))
            return torch.cat([self._vectors, torch.stack([self._later[key] for key in keys])])


def check_weight(weight: float) -> None:
    """Checks the weight of a sentence. Raises `ConfigError`."""
    if not 0 <= weight <= 100:
        raise ConfigError(f"about_weight is {weight}; it must be between 0 and 100")


def run_steering(
    run: TrainedRun, dataset: Dataset | None = None, progress: Progress = SILENT
) -> Steering:
    """Returns the steering of a run: by the embedding it was trained on, else its data set's default one.

    Raises:
        ConfigError: the catalogue has no text.
        ArtefactError: the run was trained on no text embedding, and its data set has none or is gone.
    """
    names, recorded = _text_columns(run.items), run.manifest.text
    try:
        data = dataset if dataset is not None else run.dataset()
        embeddings = load_embeddings(data, recorded["name"] if recorded else None)
    except ArtefactError:
        if recorded is None:
            raise
        item_text = ItemText(recorded, names)
        progress.note("embedding the catalogue, because the run's text embedding is gone")
        return Steering(item_text, item_text.embed(run.items, progress), run.items)
    item_text = ItemText(embeddings.manifest.model_dump(mode="json"), names)
    known = embeddings.items[: len(run.item_ids)]
    more = run.items.slice(len(known))
    vectors = torch.cat([known, item_text.embed(more, progress)]) if len(more) else known
    return Steering(item_text, vectors, run.items)


def _text_columns(items: pa.Table) -> list[str]:
    names = [name for name in items.column_names if name != "item_id"]
    if not names:
        raise ConfigError("the catalogue has no text columns, so no sentence can be followed")
    return names


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=1)
