"""The `add-items` command: adds items without events to a trained run on disk, by their text."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError, DataError
from seqloom.core.files import atomic_folder, sole_writer
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.records import record_files
from seqloom.core.tensors import write_tensors
from seqloom.data.catalog import arrow_strings, text_table
from seqloom.data.checks import Findings
from seqloom.data.codes import count_decimals
from seqloom.data.sources import ReadOptions, Source, read_items
from seqloom.data.store import Dataset
from seqloom.runs.folder import Run, load_run
from seqloom.runs.manifest import check_fingerprint, write_manifest
from seqloom.runs.new_items import new_item_reader
from seqloom.runs.run_files import ITEMS, POPULARITY, read_weights, write_weights

_SHOWN = 5


class AddItemsSummary(Config):
    """The result of `add-items`."""

    run: str
    """The run with the new items."""
    added: int
    items: int
    """Items of the catalogue now."""
    text: str | None
    """The text embedding that the rows were inferred from; None where the system reads words."""
    explained: dict[str, float]
    """For each table that is inferred, the estimated share of its variance in new items that the text
    explains; 0: a new item gets little more than the mean item's vector."""


@public_function()
def add_items(
    run: Run | str | Path,
    items: Any,
    *,
    out: str | Path | None = None,
    text: str | None = None,
    dataset: Dataset | str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = AUTO,
) -> AddItemsSummary:
    """Adds a row for each new item, made from its text, to every item table of the run.

    Nothing else of the run changes: old items keep their rows. The result replaces the run, or is
    written at `out`.

    Args:
        items: a path or a frame with an id column and the text columns of the catalogue.
        text: the name of the data set's text embedding; the default one if not given. Systems that
            read the texts themselves need none.

    Raises:
        ConfigError: the run's system cannot take new items, or not on disk.
        DataError: the table cannot be read, or holds an item that the catalogue has.
        ArtefactError: the data set or its text embedding is missing, or `out` exists.
        EmbeddingError: the encoder of the text embedding is no longer the same.
    """
    run = run if isinstance(run, Run) else load_run(run)
    target = Path(out) if out is not None else run.path
    with sole_writer(target, progress):
        return _add(run, items, target, text, dataset, progress, overwrite or out is None)


def _add(
    run: Run,
    items: Any,
    target: Path,
    text: str | None,
    dataset: Dataset | str | Path | None,
    progress: Progress,
    overwrite: bool,
) -> AddItemsSummary:
    data = _dataset(run, dataset)
    reader = new_item_reader(run, text=text, dataset=data)
    new = _read(items, run, Findings(progress))
    state = read_weights(run.path, run.manifest.weights_sha256)
    tables = run.item_tables
    if not set(tables) <= set(state):
        raise ConfigError(
            f"a run of {run.system.name} takes new items in memory (`Run.add_items`, or PUT "
            "/v1/items/ID of a server), not on disk: its items have no rows of their own there"
        )
    rows = reader.read(new, tables, progress)
    state = {
        name: torch.cat([value, rows.tables[name].to(value)]) if name in tables else value
        for name, value in state.items()
    }
    _write(run, target, new, state, overwrite=overwrite)
    return AddItemsSummary(
        run=str(target),
        added=new.num_rows,
        items=len(run.item_ids) + new.num_rows,
        text=None if reader.text is None else reader.text.name,
        explained=rows.explained,
    )


def _dataset(run: Run, dataset: Dataset | str | Path | None) -> Dataset | None:
    """Opens the data set that was named; None means its path at the training."""
    if dataset is None:
        return None
    data = (dataset if isinstance(dataset, Dataset) else run.dataset(dataset)).warm
    check_fingerprint(run.manifest, data)
    return data


def _read(items: Any, run: Run, findings: Findings) -> pa.Table:
    """Reads the new items with the catalogue's columns."""
    options = ReadOptions()
    table = read_items(items, options, Source(format="csv", name="", columns={}))
    written = count_decimals(pl.Series(run.item_ids, dtype=pl.String)) > 0
    frame = text_table(table, None, findings, as_written=written)
    text_columns = [name for name in run.items.column_names if name != "item_id"]
    have = [name for name in frame.columns if name != "item_id"]
    if not set(text_columns) & set(have):
        raise DataError(
            f"{table.name} has none of the catalogue's text columns ({', '.join(text_columns) or 'none'}); "
            f"it has {', '.join(have) or 'none'}"
        )
    for name in sorted(set(have) - set(text_columns)):
        findings.add("unknown-column", 1, f"column {name!r} is not in the catalogue; left out")
    for name in text_columns:
        if name not in have:
            findings.add("missing-column", 1, f"{table.name} has no column {name!r}; left empty")
    there = [item_id for item_id in frame["item_id"].to_list() if item_id in run.item_numbers]
    if there:
        raise DataError(
            f"{len(there)} item(s) of {table.name} are in the catalogue already: "
            f"{', '.join(there[:_SHOWN])}{', ...' if len(there) > _SHOWN else ''}; leave them out"
        )
    if not frame.height:
        raise DataError(f"{table.name} holds no item")
    text = arrow_strings(frame)
    empty = pa.array([""] * text.num_rows, pa.large_string())
    columns = {name: text.column(name) if name in have else empty for name in text_columns}
    return pa.table({"item_id": text.column("item_id"), **columns})


def _write(
    run: Run, target: Path, new: pa.Table, state: dict[str, Tensor], *, overwrite: bool
) -> None:
    """Writes a copy of the run with the longer tables, atomically."""
    manifest = run.manifest
    items = pa.concat_tables([run.items, new.cast(run.items.schema)])
    sizes = manifest.sizes.model_copy(update={"num_items": items.num_rows})
    with atomic_folder(target, overwrite=overwrite) as work:
        shutil.copytree(run.path, work, dirs_exist_ok=True)
        sha256 = write_weights(work, state)
        pq.write_table(items, work / ITEMS)
        changed_files = [ITEMS]
        if run.popularity is not None:
            counts = torch.nn.functional.pad(run.popularity, (0, new.num_rows))
            write_tensors(work / POPULARITY, {"counts": counts})
            changed_files.append(POPULARITY)
        changed = {
            "sizes": sizes,
            "added_items": manifest.added_items + new.num_rows,
            "weights_sha256": sha256,
            "trained_sha256": manifest.evaluated_weights,
            "records": manifest.records | record_files(work, changed_files),
        }
        write_manifest(work, manifest.model_copy(update=changed))
