"""A run on disk: a trained system, what it was trained on, and how well it ranks.

manifest.json         system, sizes, data set fingerprint, text embedding, versions, cost, status; the hashes
                      of the files below that training writes, which are checked when they are opened
config.yaml           the resolved configuration; round-trips
weights.safetensors   every tensor of the system; of a plug-in, not those of its language model
model/                what else the system needs (tokenizer, words, shapes of models), where it does
items.parquet         the catalogue's ids and texts, so that the run answers without the data set
popularity.safetensors  training events of each item
log.jsonl             one line an epoch; tensorboard/ holds the same
metrics*.json         what `evaluate` found, with a checksum and the hashes of the weights and of the ranks
ranks*.parquet        the rank of every user's target
audit.json            what the last `audit` found, with a checksum
ids/                  the run that supplied the item ids, where one was trained for it
checkpoints/          while training: last/ to resume from, best/ the weights chosen on validation
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch

from seqloom.core.damage import reading
from seqloom.core.device import resolve_device
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.locks import holder
from seqloom.core.protocols import ExtendsCatalogue, Scorer
from seqloom.data.store import Dataset
from seqloom.data.tables import read_id_table
from seqloom.data.tie_keys import tie_keys
from seqloom.runs.manifest import RunManifest, check_fingerprint, read_manifest
from seqloom.runs.run_files import (
    ITEMS,
    REMEDY,
    WEIGHTS,
    check_model_files,
    checked_config,
    read_log,
    read_popularity,
    read_weights,
)
from seqloom.systems.base import MODEL_FOLDER, System, base_differences
from seqloom.systems.registry import system_class
from seqloom.text.prompts import naming_column


class Run:
    """A complete run: the system with its weights, ready to score."""

    def __init__(self, path: Path, manifest: RunManifest, system: System[Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.system = system

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

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
        """Items that the run was trained on; later ones were added."""
        return self.manifest.sizes.num_items - self.manifest.added_items

    @cached_property
    def item_ids(self) -> list[str]:
        """Entry i is the id of item number i + 1."""
        return self.items.column("item_id").to_pylist()

    @cached_property
    def tie_keys(self) -> torch.Tensor:
        """[N] int64, what breaks ties between items; see `data.tie_keys`."""
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
        """The system frozen for ranking, made once."""
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
        return read_log(self.path, self.manifest.records)

    @cached_property
    def item_tables(self) -> dict[str, torch.Tensor]:
        """What the system knows of items, one row an item; empty where it cannot take new ones."""
        system = self.system
        return system.item_tables() if isinstance(system, ExtendsCatalogue) else {}

    def add_items(self, items: pa.Table) -> None:
        """Put new items into the catalogue in memory; `seqloom.add_items` writes a run.

        `items` has `item_id` and text columns, of which those of the catalogue are read.

        Raises:
            ConfigError: the system cannot, or an id is in the catalogue already.
            ArtefactError: it goes by a text embedding of the data set, and that is missing.
        """
        from seqloom.runs.new_items import extended, new_item_reader

        reader = new_item_reader(self)
        new = items.column("item_id").to_pylist()
        twice = [i for i, n in Counter([*self.item_ids, *new]).items() if n > 1]
        if twice:
            raise ConfigError(f"item {twice[0]!r} is in the catalogue already, or given twice")
        rows = [{k: v or "" for k, v in row.items()} for row in items.to_pylist()]
        table = reader.table(new, rows)
        tables = extended(self.item_tables, reader.read(table, self.item_tables))
        both = pa.concat_tables([self.items, table.cast(self.items.schema)])
        for stale in ("item_ids", "titles", "item_numbers", "tie_keys"):
            self.__dict__.pop(stale, None)
        self.items, self.item_tables = both, tables
        self.scorer = cast(ExtendsCatalogue, self.system).scorer_over(tables)

    def dataset(self, path: str | Path | None = None, *, with_cold: bool = False) -> Dataset:
        """The data set the run was trained on, from where it was then or from `path`.

        Cold items, which training did not know, are in it only `with_cold`.

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

    def recommend(
        self, histories: list[list[str]], k: int = 10, **options: Any
    ) -> list[dict[str, Any]]:
        """The `k` best items for each history of item ids; see `pipelines.recommend.recommend.recommend`."""
        from seqloom.pipelines.recommend.recommend import recommend

        return [r.model_dump() for r in recommend(self, histories=histories, k=k, **options)]


def check_base(path: Path, manifest: RunManifest, system: System[Any]) -> None:
    """Make sure that a plug-in meets the language model it was trained with.

    Raises:
        ArtefactError: it is another one.
    """
    wrong = base_differences(manifest.base, system.base_reference())
    if wrong:
        raise ArtefactError(
            f"{path} is a plug-in of {wrong}; name the right one as llm.name in {path / 'config.yaml'}, or "
            "train again"
        )


def load_run(path: str | Path, *, device: str = "cpu") -> Run:
    """Open a complete run.

    Raises:
        ArtefactError: the folder is no run, unfinished, damaged or of another format version.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if manifest.status != "complete":
        who = holder(path)
        if who is not None:
            raise ArtefactError(f"{path} is in progress: it is being trained by {who}; wait for it")
        raise ArtefactError(
            f"{path} is not finished; go on with `seqloom train ... --out {path} --resume`"
        )
    with reading(path / "manifest.json", "the manifest of a run", REMEDY):
        cls = system_class(manifest.system)
    config = checked_config(path, cls, manifest.config_sha256)
    state = read_weights(path, manifest.weights_sha256)
    check_model_files(path, manifest.files)
    with reading(path / MODEL_FOLDER, "the files of a system", REMEDY):
        system = cls(config, manifest.sizes)
        check_base(path, manifest, system)
        system.read_files(path / MODEL_FOLDER)
    with reading(path / WEIGHTS, "the weights of a run", REMEDY):
        system.load_state_dict(state)
    return Run(path, manifest, system.to(resolve_device(device)).eval())
