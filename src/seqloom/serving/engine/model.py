"""A served run: its catalogue, its popularity, its version."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from seqloom.core.errors import ArtefactError, SeqloomError, ServingError
from seqloom.core.protocols import ListScorer, SplitsScore, VectorScorer
from seqloom.data.sequences import Sequences
from seqloom.evaluation.groups import head_threshold
from seqloom.inference.ann_index import Recall
from seqloom.runs.ann_scorer import approximate_scorer, can_search
from seqloom.runs.folder import Run, load_run
from seqloom.runs.new_items import NewItemReader, new_item_reader
from seqloom.runs.steering import Steered, Steering, run_steering
from seqloom.serving.engine.catalogue import ModelCatalogue, Snapshot
from seqloom.serving.store.base import LiveItem


class NoSteeringError(ServingError):
    """The model has no texts, or no text embedding, to follow a sentence with."""


class ServedModel:
    """One loaded run. Another load under the same name is another object.

    Raises:
        SeqloomError: the run cannot be opened, or its scores are not finite.
    """

    def __init__(
        self, name: str, path: Path, *, device: str = "cpu", recall: float | None = None
    ) -> None:
        """`recall` is the target of approximate search, for models that support it; None searches exactly."""
        self.name = name
        self.path = path
        self.run: Run = load_run(path, device=device)
        self.version = self.run.manifest.weights_sha256[:12]
        self.loaded_at = int(time.time())
        self.device = self.run.device
        self.max_len = self.run.system.max_len
        self.masks_seen = self.run.manifest.mask_seen
        """Whether lists leave out the history, unless a query says otherwise."""
        scorer = self.run.scorer
        self.recall: Recall | None = None
        """Recall of the approximate search; None where the search is exact."""
        if recall is not None and can_search(scorer):
            scorer = approximate_scorer(self.run, target=recall)
            self.recall = scorer.recall
        self.by_vectors = isinstance(scorer, VectorScorer)
        self.reader: NewItemReader | None = None
        """Makes rows of new items; None where the model cannot take any."""
        self.no_new_items = ""
        """Why new items cannot be recommended; empty where they can."""
        system = self.run.system
        if system.new_items_by is None:
            self.no_new_items = f"{system.name} knows only the items it was trained on"
        else:
            try:
                self.reader = new_item_reader(self.run)
            except SeqloomError as error:
                self.no_new_items = str(error)
        self.catalogue = ModelCatalogue(self.run, self.reader, scorer)
        """The items that it can rank; `snapshot` is their state now."""
        self.counts = self.run.training_counts
        self.head_count = head_threshold(self.counts) if self.counts is not None else None
        """Training events from which on an item is not of the long tail; None where counts are not known."""
        self.views = system.view_columns() if isinstance(system, SplitsScore) else {}
        self._steering: Steering | None = None
        self._steering_lock = threading.Lock()
        self._warm_up()

    @property
    def system(self) -> str:
        """The system's name."""
        return self.run.system.name

    @property
    def snapshot(self) -> Snapshot:
        """The catalogue now."""
        return self.catalogue.snapshot

    @property
    def grows(self) -> bool:
        """Whether items added after training can be recommended."""
        return self.reader is not None

    @property
    def refused(self) -> Mapping[str, str]:
        """Why an added item cannot be recommended, by id."""
        return self.catalogue.refused

    def apply(self, items: Sequence[LiveItem]) -> None:
        """Applies catalogue changes; see `ModelCatalogue.apply`."""
        self.catalogue.apply(items)

    def follow(self, snapshot: Snapshot, sentence: str, weight: float) -> Steered:
        """Computes the steering of a sentence; the first call reads the item vectors and loads the encoder.

        Raises:
            NoSteeringError: the model cannot follow sentences.
            SeqloomError: what `Steering.follow` raises.
        """
        with self._steering_lock:
            if self._steering is None:
                try:
                    self._steering = run_steering(self.run)
                except SeqloomError as error:
                    raise NoSteeringError(str(error)) from None
        later = snapshot.later[: snapshot.scorer.num_items - len(self.run.item_ids)]
        return self._steering.follow(sentence, weight, later)

    def is_tail(self, number: int) -> bool | None:
        """Returns whether an item is of the long tail; None where counts are not known.

        An item added after training has no training events, so it is.
        """
        if self.counts is None or self.head_count is None:
            return None
        return number > len(self.counts) or int(self.counts[number - 1]) < self.head_count

    def score(self, snapshot: Snapshot, histories: Sequence[Sequence[int]]) -> Tensor:
        """Scores the whole catalogue. Shapes: -> [B, N + M]."""
        items, lengths = self.pad(histories)
        return snapshot.scorer.score(items, lengths).float().cpu()

    def pad(self, histories: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Pads histories as the scorer reads them. Shapes: -> [B, L], [B]."""
        batch = Sequences.from_lists(histories).pad(self.max_len).to(self.device)
        return batch.items, batch.lengths

    def _warm_up(self) -> None:
        """Scores two histories, so that the first request is fast and a broken run is never served."""
        scorer = self.snapshot.scorer
        histories = [[1], list(range(1, 1 + min(8, len(self.run.item_ids))))]
        with torch.inference_mode():
            if isinstance(scorer, ListScorer):  # such models score all items slowly
                scores = scorer.best(*self.pad(histories), 1)[1].cpu()
            else:
                scores = self.score(self.snapshot, histories)
        if not bool(torch.isfinite(scores).all()):
            raise ArtefactError(f"{self.path} gives scores that are not finite; train it again")
