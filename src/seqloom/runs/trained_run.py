"""A complete run in memory: the system, its catalogue, its popularity, its log."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch

from seqloom.core.errors import ArtefactError
from seqloom.core.protocols import ExtendsCatalogue, Scorer
from seqloom.core.tabular import Tabular
from seqloom.data.store import Dataset
from seqloom.data.tables import read_id_table
from seqloom.data.tie_keys import tie_keys
from seqloom.inference.ranker import Ranker
from seqloom.runs.manifest import RunManifest, check_fingerprint
from seqloom.runs.run_files import ITEMS, REMEDY, read_popularity, read_training_log
from seqloom.systems.base import System
from seqloom.text.prompts import naming_column


class TrainedRun(Tabular):
    """A complete run: the system with its weights, ready to score."""

    def __init__(self, path: Path, manifest: RunManifest, system: System[Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.system = system

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def headline(self) -> str:
        """Returns what the run is, on one line."""
        return f"Run {self.name} of {self.manifest.system}"

    def facts(self) -> dict[str, Any]:
        """Returns the data set, the sizes, the training and the validation metrics of the run."""
        manifest = self.manifest
        return {
            "data set": Path(manifest.dataset.path).name,
            "items": manifest.sizes.num_items,
            "parameters": manifest.parameters,
            "epochs": manifest.cost.epochs,
            "training seconds": manifest.cost.seconds_with_members,
            **{f"validation {name}": value for name, value in manifest.valid.items()},
            "device": str(self.device),
        }

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns the training log: one row an epoch with loss, seconds and validation metrics."""
        return [
            {
                "phase": row.get("phase"),
                "epoch": row.get("epoch"),
                "loss": (row.get("train") or {}).get("loss"),
                "seconds": row.get("seconds"),
                **{f"valid {name}": value for name, value in (row.get("valid") or {}).items()},
            }
            for row in self.log
        ]

    @property
    def device(self) -> torch.device:
        """Where the system's tensors are."""
        first = next(iter(self.system.state_dict().values()), None)
        return torch.device("cpu") if first is None else first.device

    @cached_property
    def items(self) -> pa.Table:
        """Row i describes item number i + 1: `item_id`, then text columns.

        Raises:
            ArtefactError: the file is missing, damaged or changed.
        """
        count, records = self.manifest.sizes.num_items, self.manifest.records
        return read_id_table(self.path, ITEMS, "item_id", count, records, REMEDY)

    @property
    def trained_items(self) -> int:
        """Number of items that the run was trained on; later ones were added."""
        return self.manifest.sizes.num_items - self.manifest.added_items

    @cached_property
    def item_ids(self) -> list[str]:
        """Entry i is the id of item number i + 1."""
        return self.items.column("item_id").to_pylist()

    @cached_property
    def tie_keys(self) -> torch.Tensor:
        """[N] int64, breaks ties between items; see `data.tie_keys`."""
        return tie_keys(self.item_ids)

    @cached_property
    def titles(self) -> list[str | None]:
        """Entry i is the title of item number i + 1; None where the catalogue has none."""
        title = naming_column(self.items)
        if title is None:
            return [None] * len(self.item_ids)
        return [text or None for text in self.items.column(title).to_pylist()]

    @cached_property
    def item_numbers(self) -> dict[str, int]:
        """Item id to item number 1..N."""
        return {item_id: i for i, item_id in enumerate(self.item_ids, start=1)}

    @cached_property
    def scorer(self) -> Scorer:
        """The system frozen for ranking."""
        return self.system.scorer()

    @cached_property
    def popularity(self) -> torch.Tensor | None:
        """[N] int64, training events of each item; None in a run of an older seqloom.

        Raises:
            ArtefactError: the file is damaged or changed.
        """
        return read_popularity(self.path, self.manifest.sizes.num_items, self.manifest.records)

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """The rows of `log.jsonl`.

        Raises:
            ArtefactError: the file is damaged or changed.
        """
        return read_training_log(self.path, self.manifest.records)

    @cached_property
    def item_tables(self) -> dict[str, torch.Tensor]:
        """The tables of the system with one row an item; empty where it cannot take new ones."""
        system = self.system
        return system.item_tables() if isinstance(system, ExtendsCatalogue) else {}

    def dataset(self, path: str | Path | None = None, *, with_cold: bool = False) -> Dataset:
        """Loads the data set that the run was trained on, from its path at training or from `path`.

        Cold items, which training did not know, are included only `with_cold`.

        Raises:
            ArtefactError: it is not there, or it is another data set.
        """
        where = Path(path or self.manifest.dataset.path)
        if not where.exists():
            raise ArtefactError(
                f"the data set of run {self.path} is no longer at {where}; say where it is now "
                "with --dataset"
            )
        dataset = Dataset.load(where)
        check_fingerprint(self.manifest, dataset)
        return dataset if with_cold else dataset.warm

    @cached_property
    def training_counts(self) -> torch.Tensor | None:
        """[N] `popularity`; of a run of an older seqloom from its data set, None where that is gone too."""
        if self.popularity is not None:
            return self.popularity
        try:
            return self.dataset().popularity[1:]
        except ArtefactError:
            return None

    def ranker(self, scorer: Scorer | None = None, *, for_empty: bool = True) -> Ranker:
        """Ranks the catalogue, by the run's own scorer unless another is given.

        Args:
            for_empty: whether it ranks empty histories too; reads the items' popularity.

        Raises:
            ArtefactError: `for_empty`, and the run does not know what is popular.
        """
        popularity = self.training_counts if for_empty else None
        if for_empty and popularity is None:
            raise ArtefactError(
                f"a history is empty, and {self.path} does not know what is popular: it was made by an "
                "older seqloom and its data set is gone; leave that history out, or train again"
            )
        return Ranker(
            scorer or self.scorer,
            device=self.device,
            max_len=self.system.max_len,
            keys=self.tie_keys,
            popularity=popularity,
        )

    def extend_catalogue(self, items: pa.Table, tables: dict[str, torch.Tensor]) -> None:
        """Replaces the catalogue, in memory, by one with more items behind the same first ones.

        Shapes: tables [N + M, ...] each.
        """
        for stale in ("item_ids", "titles", "item_numbers", "tie_keys"):
            self.__dict__.pop(stale, None)
        self.items, self.item_tables = items, tables
        self.scorer = cast(ExtendsCatalogue, self.system).scorer_over(tables)
