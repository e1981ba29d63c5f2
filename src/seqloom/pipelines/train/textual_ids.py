"""`ids`: writes the textual ID of every item of a data set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.device import resolve_device
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import atomic_file, sole_writer
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.protocols import NamesItems
from seqloom.core.random import derive_seed
from seqloom.data.store import Dataset
from seqloom.llm.generation.text_model import END
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.system import IDGenRec
from seqloom.text.prompts import text_columns, title_column

FILE = "ids.parquet"


class IDSummary(Config):
    """The result of `textual_ids`."""

    dataset: str
    file: str
    """Parquet: `item_id`, `title`, `id`, `tokens`."""
    items: int
    unique: int
    """Distinct IDs; always as many as items."""
    tokens_mean: float
    """Tokens of an ID, without the end mark."""
    tokens_max: int
    words_mean: float
    greedy: int
    """Items that kept the generator's first choice."""
    diverse: int
    """Items named by a diverse group."""
    extended: int
    """Items whose ID needed a further word to be unique."""
    seconds: float
    """Time to make the IDs, without loading the model."""
    rows: list[dict[str, Any]] = Field(default_factory=list)
    """The first items with their IDs."""


@public_function()
def textual_ids(
    dataset: Dataset | str | Path,
    *,
    run: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    show: int = 20,
    overwrite: bool = False,
    device: str = "auto",
    progress: Progress = AUTO,
) -> IDSummary:
    """Names every item and writes the table to `out` (by default DATASET/ids.parquet).

    The generator or tree is that of a trained `run` of idgenrec. Without a run, `config` (keys of idgenrec)
    describes an untrained generator, or a tree, which is built from the training part of `dataset`.

    Raises:
        ConfigError: both are given, or the generator has random weights.
        ArtefactError: the file exists and `overwrite` is false, or `run` is not a run of idgenrec.
    """
    data = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    file = Path(out) if out is not None else data.path / FILE
    if file.exists() and not overwrite:
        raise ArtefactError(
            f"{file} already exists; choose another name with --out, or --overwrite"
        )
    if run is not None and config:
        raise ConfigError("give either a run, whose generator is taken, or configuration keys")
    with sole_writer(file, progress):
        system = (
            _load_system(run, device)
            if run is not None
            else _build_untrained(data, config, device, progress)
        )
        texts = system.texts_of(data.items)
        started = time.monotonic()
        ids, statistics = system.new_ids(texts, data.item_ids, progress)
        seconds = time.monotonic() - started
        names = system.words(ids, texts)
        tokens = (ids > END).sum(1)
        table = _table(data, names, tokens.tolist())
        with atomic_file(file) as work:
            pq.write_table(table, work)
    return IDSummary(
        dataset=str(data.path),
        file=str(file),
        items=data.num_items,
        unique=len(set(names)),
        tokens_mean=float(tokens.double().mean()),
        tokens_max=int(tokens.max()),
        words_mean=sum(len(name.split()) for name in names) / len(names),
        greedy=statistics.greedy,
        diverse=statistics.diverse,
        extended=statistics.extended,
        seconds=round(seconds, 3),
        rows=table.slice(0, show).to_pylist(),
    )


def _load_system(run: str | Path, device: str) -> NamesItems:
    system = load_run(run, device=device).system
    if not isinstance(system, NamesItems):
        raise ArtefactError(f"{run} is a run of {system.name!r}, which has no textual IDs")
    return system


def _build_untrained(
    data: Dataset, config: Mapping[str, Any] | None, device: str, progress: Progress
) -> NamesItems:
    resolved = IDGenRecConfig.build(config)
    if resolved.ids.make == "generator" and resolved.generator.source != "pretrained":
        raise ConfigError(
            f"generator.source is {resolved.generator.source!r}: a generator with random weights "
            "knows nothing before it is trained; use a pretrained one, or the generator of a run with --run"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(resolved.seed, "initialise"))
        system: System[Any] = IDGenRec(resolved, Sizes(num_items=data.num_items))
        system.initialise(TrainingData(data, progress))
    system.to(resolve_device(device)).eval()
    assert isinstance(system, NamesItems)
    return system


def _table(data: Dataset, names: list[str], tokens: list[int]) -> pa.Table:
    titles = data.items.column(title_column(text_columns(data.items)))
    return pa.table(
        {"item_id": data.item_ids, "title": titles, "id": names, "tokens": pa.array(tokens)}
    )
