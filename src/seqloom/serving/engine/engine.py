"""The engine: models by name, worker threads that answer for them, live catalogue and reloads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from seqloom.core.batching import SERVING_LIMITS
from seqloom.core.device import usable_cores
from seqloom.core.errors import ConfigError, SeqloomError, ServingError
from seqloom.core.protocols import VectorScorer
from seqloom.serving.config import EngineConfig
from seqloom.serving.engine.answering import Answerer
from seqloom.serving.engine.following import ReloadFollower
from seqloom.serving.engine.live import LiveCatalogue
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.observer import Observer, Unobserved
from seqloom.serving.engine.queries import Query
from seqloom.serving.engine.scheduler import Lane, Scheduler
from seqloom.serving.lineage import admit
from seqloom.serving.store.base import Store

_LOG = logging.getLogger("seqloom.serving")


class UnknownModelError(ServingError):
    """No run of that name is served."""


class Engine:
    """Answers queries against several runs.

    `runs` are folders by name; the first is the default. The caller closes the store.

    Raises:
        SeqloomError: a run cannot be opened, its users and items differ from the store's, or the store does
            not answer.
    """

    def __init__(
        self,
        runs: Mapping[str, Path],
        store: Store,
        config: EngineConfig | None = None,
        *,
        device: str = "cpu",
        observer: Observer | None = None,
    ) -> None:
        if not runs:
            raise ConfigError("there is no run to serve; name at least one")
        self.config = config or EngineConfig()
        self.store = store
        self.observer: Observer = observer or Unobserved()
        self._paths = dict(runs)
        self._device = device
        self._reloading = threading.Lock()
        self._admitted: set[str] = set()
        # Before the models: a reload that is announced while they load is applied afterwards.
        self._follower = ReloadFollower(store, self.reload, self.config.refresh_s, self.observer)
        self.models = {name: self._load(name) for name in runs}
        if self.config.approximate and all(each.recall is None for each in self.models.values()):
            raise ConfigError(
                "approximate search is for models that score by a dot product, and none of these does; "
                "leave --approximate out"
            )
        self.default = next(iter(runs))
        self.live = LiveCatalogue(store, lambda: list(self.models.values()))
        self.live.refresh()
        torch.set_num_threads(1)  # the workers are the parallelism
        workers = self.config.workers or max(1, usable_cores() - 1)
        self._scheduler = Scheduler(self.config, workers, self.observer.batch)
        self._answerers = {
            name: Answerer(model, store, self.config.history_limit, self.observer)
            for name, model in self.models.items()
        }
        self._lanes = {name: self._open_lane(name) for name in runs}
        self._ended = threading.Event()
        self._refresher = threading.Thread(
            target=self._keep_fresh, name="seqloom-refresh", daemon=True
        )
        self._refresher.start()
        self._follower.start()

    def submit(self, name: str | None, query: Query) -> Future[Any]:
        """Queues a query for a model, the default one where `name` is None.

        The future gives an `Answer` or an `Explanation`, or raises a `ServingError` or `StoreError`.

        Raises:
            UnknownModelError: no such model.
            OverloadedError: the queue of the model is full.
            ClosedError: the engine is closing.
        """
        return self._scheduler.submit(self._lanes[self.model(name).name], query)

    def model(self, name: str | None = None) -> ServedModel:
        """Returns the model that is served now under `name`, the default one where it is None.

        Raises:
            UnknownModelError: no such model.
        """
        model = self.models.get(self.default if name is None else name)
        if model is None:
            raise UnknownModelError(
                f"no model {name!r} is served; there are {', '.join(map(repr, self.models))}"
            )
        return model

    def reload(self, name: str | None = None) -> list[ServedModel]:
        """Loads one run, or all, again from disk; batches under way end on the old one.

        Raises:
            UnknownModelError: no such model.
            SeqloomError: a run cannot be opened; the served one stays.
        """
        names = list(self.models) if name is None else [self.model(name).name]
        loaded = []
        with self._reloading:
            for each in names:
                try:
                    model = self._load(each)
                    self.live.install(model, self._publish)
                except SeqloomError:
                    self.observer.reload(each, ok=False)
                    raise
                self.observer.reload(each, ok=True)
                loaded.append(model)
        return loaded

    def announce_reload(self) -> None:
        """Tells the other servers of the store to reload all their runs.

        Raises:
            StoreError: the store refuses; the others keep their models.
        """
        self._follower.announce()

    def waiting(self) -> dict[str, int]:
        """Counts the queries that wait, by model."""
        return self._scheduler.waiting()

    def close(self) -> None:
        """Answers the accepted queries, then stops."""
        self._scheduler.close()
        self._ended.set()
        self._refresher.join()
        self._follower.close()

    def _load(self, name: str) -> ServedModel:
        recall = self.config.recall if self.config.approximate else None
        model = ServedModel(name, self._paths[name], device=self._device, recall=recall)
        fingerprint = model.run.manifest.dataset.fingerprint
        if fingerprint not in self._admitted:  # a reload does without the store otherwise
            admit(self.store, name, model.run, accept_other=self.config.accept_other_data)
            self._admitted.add(fingerprint)
        if model.recall is not None:
            _LOG.info("approximate", extra={"fields": {"model": name, **asdict(model.recall)}})
        return model

    def _publish(self, model: ServedModel) -> None:
        # Single assignments: a batch is answered by the old model or by the new one.
        self.models = {**self.models, model.name: model}
        self._answerers[model.name].model = model
        lane = self._lanes[model.name]
        lane.max_batch, lane.serial = self._shape(model)

    def _open_lane(self, name: str) -> Lane:
        max_batch, serial = self._shape(self.models[name])
        lane = Lane(name, self._answerers[name], max_batch, serial)
        self._scheduler.add(lane)
        return lane

    def _shape(self, model: ServedModel) -> tuple[int, bool]:
        """Returns the size of a batch, and whether batches run one at a time (a language model's caches)."""
        scorer = model.snapshot.scorer
        largest = SERVING_LIMITS.rows_for(scorer.num_items)
        return min(self.config.max_batch, largest), not isinstance(scorer, VectorScorer)

    def _keep_fresh(self) -> None:
        """Applies the catalogue changes of other servers."""
        while not self._ended.wait(self.config.refresh_s):
            try:
                self.live.refresh()
            except SeqloomError:
                self.observer.store_error("reading the catalogue")
