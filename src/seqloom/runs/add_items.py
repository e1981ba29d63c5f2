"""`add-items`: items without events enter a trained run, with vectors inferred from their text."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError, ConfigError, DataError
from seqloom.core.files import atomic_folder, sha256_file
from seqloom.core.progress import SILENT, Progress
from seqloom.data.catalog import arrow_strings, text_table
from seqloom.data.checks import Findings
from seqloom.data.sources import ReadOptions, Source, read_items
from seqloom.data.store import Dataset
from seqloom.nn.ridge import RidgeMap, fit_ridge
from seqloom.runs.folder import Run, check_fingerprint, load_run, write_manifest
from seqloom.systems.registry import names, system_class
from seqloom.text.encoders import check_vectors, rebuild_encoder
from seqloom.text.prompts import item_texts
from seqloom.text.store import TextEmbeddings, load_embeddings

_SHOWN = 5


class AddItemsSummary(Config):
    """What `add-items` says at the end."""

    run: str
    """The run with the new items."""
    added: int
    items: int
    """Items of the catalogue now."""
    text: str
    """The text embedding that the vectors were inferred from."""
    explained: dict[str, float]
    """For each table of the system, the estimated share of its variance in new items that the text
    explains; 0: a new item gets little more than the mean item's vector."""


@dataclass(frozen=True)
class _Known:
    """Text and rows of the items that have training events."""

    text: TextEmbeddings
    rows: Tensor
    """[K] int64, rows of the tables and of the text embedding."""


def add_items(
    run: Run | str | Path,
    items: Any,
    *,
    out: str | Path | None = None,
    text: str | None = None,
    dataset: Dataset | str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> AddItemsSummary:
    """Give each new item a row in every item table of the run, inferred from the item's text.

    A linear map from text to rows is fitted on the items that have training events. Nothing else of the
    run changes: old items keep their scores. The result replaces the run, or is written at `out`.

    Args:
        items: a path or a frame with an id column and the text columns of the catalogue.
        text: the data set's text embedding to go by; the default one if not given.

    Raises:
        ConfigError: the run's system cannot take new items.
        DataError: the table cannot be read, or holds an item that the catalogue has.
        ArtefactError: the data set or its text embedding is missing, or `out` exists.
        EmbeddingError: the encoder of the text embedding is no longer the same.
    """
    run = run if isinstance(run, Run) else load_run(run)
    tables = run.system.item_tables
    if not tables:
        able = [name for name in names() if system_class(name).item_tables]
        raise ConfigError(
            f"a run of {run.system.name} cannot take new items; those of {', '.join(able)} can"
        )
    data = (dataset if isinstance(dataset, Dataset) else run.dataset(dataset)).warm
    check_fingerprint(run.manifest, data)
    new = _read(items, run, Findings(progress))
    known = _known(data, run, text)
    vectors = _embed(new, known.text, progress)
    state = load_file(run.path / "weights.safetensors")
    explained = {}
    for name in tables:
        fitted = _fit(known, state[name])
        rows = fitted(vectors).to(state[name].dtype)
        state[name] = torch.cat([state[name], rows]).contiguous()
        explained[name] = round(fitted.explained, 4)
    target = Path(out) if out is not None else run.path
    _write(run, target, new, state, overwrite=overwrite or out is None)
    return AddItemsSummary(
        run=str(target),
        added=new.num_rows,
        items=len(run.item_ids) + new.num_rows,
        text=known.text.name,
        explained=explained,
    )


def _read(items: Any, run: Run, findings: Findings) -> pa.Table:
    """The new items with the catalogue's columns."""
    options = ReadOptions()
    table = read_items(items, options, Source(format="csv", name="", columns={}))
    frame = text_table(table, None, findings)
    wanted = [name for name in run.items.column_names if name != "item_id"]
    have = [name for name in frame.columns if name != "item_id"]
    if not set(wanted) & set(have):
        raise DataError(
            f"{table.name} has none of the catalogue's text columns ({', '.join(wanted) or 'none'}); "
            f"it has {', '.join(have) or 'none'}"
        )
    for name in sorted(set(have) - set(wanted)):
        findings.add("unknown-column", 1, f"column {name!r} is not in the catalogue; left out")
    for name in wanted:
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
    columns = {name: text.column(name) if name in have else empty for name in wanted}
    return pa.table({"item_id": text.column("item_id"), **columns})


def _known(data: Dataset, run: Run, name: str | None) -> _Known:
    text = load_embeddings(data, name)
    if len(text.items) != run.trained_items:
        raise ArtefactError(
            f"{text.path} has {len(text.items)} items, the run was trained on {run.trained_items}"
        )
    rows = torch.nonzero(data.popularity[1:] > 0).flatten()
    if len(rows) < 2:
        raise ConfigError("fewer than two items have training events, so nothing can be inferred")
    return _Known(text, rows)


def _embed(new: pa.Table, text: TextEmbeddings, progress: Progress) -> Tensor:
    """Shapes: M items -> [M, E]."""
    encoder = rebuild_encoder(text.manifest.encoder, progress)
    prompts = item_texts(new, text.manifest.items.template or "full")
    if prompts.without_text:
        progress.warn(f"{prompts.without_text} new items have no text; their vectors say little")
    texts = [entry or "" for entry in prompts.texts]
    ids = new.column("item_id").to_pylist()
    found = []
    with progress.task("encoding items", len(texts), "texts") as task:
        for start in range(0, len(texts), encoder.chunk):
            part = texts[start : start + encoder.chunk]
            vectors = encoder.encode(part)
            found.append(check_vectors(vectors, ids[start : start + len(part)], text.width))
            task.advance(len(part))
    return torch.cat(found)


def _fit(known: _Known, table: Tensor) -> RidgeMap:
    return fit_ridge(known.text.items[known.rows], table[known.rows])


def _write(
    run: Run, target: Path, new: pa.Table, state: dict[str, Tensor], *, overwrite: bool
) -> None:
    """A copy of the run with the longer tables; it appears whole or not at all."""
    manifest = run.manifest
    items = pa.concat_tables([run.items, new.cast(run.items.schema)])
    sizes = manifest.sizes.model_copy(update={"num_items": items.num_rows})
    with atomic_folder(target, overwrite=overwrite) as work:
        shutil.copytree(run.path, work, dirs_exist_ok=True)
        save_file(state, work / "weights.safetensors")
        pq.write_table(items, work / "items.parquet")
        if run.popularity is not None:
            counts = torch.nn.functional.pad(run.popularity, (0, new.num_rows))
            save_file({"counts": counts}, work / "popularity.safetensors")
        changed = {
            "sizes": sizes,
            "added_items": manifest.added_items + new.num_rows,
            "weights_sha256": sha256_file(work / "weights.safetensors"),
        }
        write_manifest(work, manifest.model_copy(update=changed))
