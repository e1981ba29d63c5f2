"""Adds items without events to the catalogue of a run, by their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow as pa
import torch
from torch import Tensor

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import ExtendsCatalogue, KnownItems, NewItems, NewRows, RowsOf
from seqloom.data.store import Dataset
from seqloom.runs.trained_run import TrainedRun
from seqloom.systems.registry import names, system_class
from seqloom.text.item_text import ItemText
from seqloom.text.store import TextEmbeddings, load_embeddings


@dataclass(frozen=True)
class NewItemReader:
    """Makes rows of the item tables for items that the run was not trained on."""

    columns: Sequence[str]
    """The text columns of the catalogue."""
    text: ItemText | None
    """Embeds the texts; None for systems that read the texts themselves."""
    rows_of: RowsOf

    def table(self, item_ids: Sequence[str], texts: Sequence[Mapping[str, str]]) -> pa.Table:
        """Returns a table with the catalogue's columns; values that `texts` lack are empty."""
        columns = {name: [text.get(name, "") for text in texts] for name in self.columns}
        return pa.table({"item_id": list(item_ids), **columns})

    def read(
        self, items: pa.Table, tables: Mapping[str, Tensor], progress: Progress = SILENT
    ) -> NewRows:
        """Returns rows for a table of new items with the catalogue's columns.

        Raises:
            SeqloomError: a text cannot be embedded or named.
        """
        vectors = None if self.text is None else self.text.embed(items, progress)
        return self.rows_of(NewItems(items.column("item_id").to_pylist(), items, vectors), tables)


def catalogue_extension(run: TrainedRun) -> ExtendsCatalogue | None:
    """Returns the run's system if it takes new items, else None."""
    system = run.system
    able = system.new_items_by is not None and isinstance(system, ExtendsCatalogue)
    return cast(ExtendsCatalogue, system) if able else None


def new_item_reader(
    run: TrainedRun, *, text: str | None = None, dataset: Dataset | None = None
) -> NewItemReader:
    """Returns the reader of new items of a run. It builds the models and maps that it needs on first use.

    Args:
        text: the name of the data set's text embedding, for systems that were trained on none.
        dataset: the data set, if it has moved since the training.

    Raises:
        ConfigError: the run's system or its configuration cannot.
        ArtefactError: the data set or its text embedding is missing.
    """
    system = catalogue_extension(run)
    if system is None:
        able = [name for name in names() if system_class(name).new_items_by]
        raise ConfigError(
            f"a run of {run.system.name} cannot take new items; those of {', '.join(able)} can"
        )
    columns = [name for name in run.items.column_names if name != "item_id"]
    if not columns:
        raise ConfigError("the catalogue has no text columns, so nothing is known of new items")
    if run.system.new_items_by == "words":
        return NewItemReader(columns, None, system.rows_of(no_known_items))
    if run.manifest.text is not None:
        item_text = ItemText(run.manifest.text, columns)
        return NewItemReader(columns, item_text, system.rows_of(no_known_items))
    data = dataset if dataset is not None else run.dataset()
    embeddings = load_embeddings(data, text)
    known = known_items(data, run, embeddings)
    item_text = ItemText(embeddings.manifest.model_dump(mode="json"), columns)
    return NewItemReader(columns, item_text, system.rows_of(lambda: known))


def add_new_items(run: TrainedRun, items: pa.Table) -> None:
    """Adds items to a run's catalogue in memory.

    Raises:
        ConfigError: the system cannot take new items, or an id is in the catalogue already.
        ArtefactError: the system needs a text embedding of the data set, and that is missing.
    """
    reader = new_item_reader(run)
    new = items.column("item_id").to_pylist()
    twice = [i for i, n in Counter([*run.item_ids, *new]).items() if n > 1]
    if twice:
        raise ConfigError(f"item {twice[0]!r} is in the catalogue already, or given twice")
    texts = [{k: v or "" for k, v in row.items()} for row in items.to_pylist()]
    table = reader.table(new, texts)
    tables = append_rows(run.item_tables, reader.read(table, run.item_tables))
    run.extend_catalogue(pa.concat_tables([run.items, table.cast(run.items.schema)]), tables)


def append_rows(tables: Mapping[str, Tensor], rows: NewRows) -> dict[str, Tensor]:
    """Appends new rows to item tables. Shapes: [N, ...], [M, ...] -> [N + M, ...] each."""
    return {name: torch.cat([table, rows.tables[name].to(table)]) for name, table in tables.items()}


def known_items(data: Dataset, run: TrainedRun, text: TextEmbeddings) -> KnownItems:
    """Returns the items of the training part, with the vectors of their texts.

    Raises:
        ArtefactError: the embedding is not one of the items that the run was trained on.
        ConfigError: fewer than two items have training events.
    """
    if len(text.items) != run.trained_items:
        raise ArtefactError(
            f"{text.path} has {len(text.items)} items, the run was trained on {run.trained_items}"
        )
    rows = torch.nonzero(data.popularity[1:] > 0).flatten()
    if len(rows) < 2:
        raise ConfigError("fewer than two items have training events, so nothing can be inferred")
    return KnownItems(text.items[rows], rows)


def no_known_items() -> KnownItems:
    """Stands for known items where the system needs none."""
    raise AssertionError("the system has a map from text in its weights")
