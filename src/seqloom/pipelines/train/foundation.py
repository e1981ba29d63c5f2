"""`train --foundation`: one recommender for several data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.data.store import Dataset, Events, write_dataset
from seqloom.distributed.processes import ALONE, Processes
from seqloom.pipelines.train.train import TrainSummary, train
from seqloom.systems.registry import system_class


def train_foundation(
    datasets: Sequence[Dataset | str | Path],
    system: str,
    *,
    out: str | Path,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    checkpoint_every_s: float = 60.0,
    progress: Progress = SILENT,
    processes: Processes = ALONE,
) -> TrainSummary:
    """Lay data sets together, in the folder `<out>-data`, and train on all of them.

    Raises:
        ConfigError: the system cannot tell data sets apart, or two have one name.
        ArtefactError: as `train`.
    """
    if not system_class(system).mixes_datasets:
        raise ConfigError(
            f"{system!r} learns one catalogue by number; a foundation model is a run of 'idgenrec'"
        )
    loaded = [(d if isinstance(d, Dataset) else Dataset.load(d)).warm for d in datasets]
    out = Path(out)
    data, renew = out.with_name(f"{out.name}-data"), overwrite and processes.rank == 0
    merged = processes.run_in_turn(lambda: merge(loaded, data, renew=renew))
    return train(
        merged,
        system,
        out=out,
        config=config,
        resume=resume,
        overwrite=overwrite,
        device=device,
        checkpoint_every_s=checkpoint_every_s,
        progress=progress,
        processes=processes,
    )


def merge(datasets: Sequence[Dataset], path: Path, *, renew: bool = False) -> Dataset:
    """One data set of all items, users and events; ids become `<data set>/<id>`.

    A folder that holds the same data sets already is taken as it is; another one is replaced only with
    `renew`. The manifest's option `origins` tells how many items and users came from each.

    Raises:
        ConfigError: there is no data set, or two have the same folder name.
        ArtefactError: `path` holds something else.
    """
    names = [dataset.path.resolve().name for dataset in datasets]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice:
        raise ConfigError(
            f"two data sets are called {twice[0]!r}; rename one of the folders, because their ids are "
            "told apart by it"
            if twice
            else "a foundation model needs at least one data set"
        )
    origins = [
        {
            "name": name,
            "path": str(dataset.path.resolve()),
            "fingerprint": dataset.fingerprint,
            "items": dataset.num_items,
            "users": dataset.num_users,
            **_nested(dataset),
        }
        for name, dataset in zip(names, datasets, strict=True)
    ]
    if path.exists() and not renew:
        found = Dataset.load(path)
        if found.manifest.options.get("origins") == origins:
            return found
    splits = sorted({str(d.manifest.options.get("split", "leave-one-out")) for d in datasets})
    users = [
        pa.table({"user_id": [f"{name}/{user}" for user in dataset.user_ids]})
        for name, dataset in zip(names, datasets, strict=True)
    ]
    return write_dataset(
        path,
        items=_items(names, datasets),
        users=pa.concat_tables(users),
        events=merged_events(datasets),
        sources=[source for dataset in datasets for source in dataset.manifest.sources],
        options={"split": " + ".join(splits), "origins": origins},
        statistics={
            "items": sum(dataset.num_items for dataset in datasets),
            "users": sum(dataset.num_users for dataset in datasets),
            "events": sum(dataset.num_events for dataset in datasets),
        },
        warnings=[],
        overwrite=renew,
    )


def _nested(dataset: Dataset) -> dict[str, Any]:
    """The parts of a data set that was laid together itself."""
    origins = dataset.manifest.options.get("origins")
    return {"origins": origins} if origins else {}


def _items(names: Sequence[str], datasets: Sequence[Dataset]) -> pa.Table:
    """All items with the union of the text columns; what a data set has not is missing."""
    tables = []
    for name, dataset in zip(names, datasets, strict=True):
        ids = pa.array([f"{name}/{item}" for item in dataset.item_ids])
        tables.append(dataset.items.set_column(0, "item_id", ids))
    return pa.concat_tables(tables, promote_options="default")


def merged_events(datasets: Sequence[Dataset]) -> Events:
    """The events of all, users and items of each numbered after those of the one before."""
    parts: dict[str, list[torch.Tensor]] = {}
    before_items = before_events = 0
    for number, dataset in enumerate(datasets):
        events = dataset.events
        named = {
            "items": events.items + before_items,
            "offsets": events.offsets[min(number, 1) :] + before_events,
            "train_end": events.train_end + before_events,
            "valid": torch.where(events.valid >= 0, events.valid + before_events, -1),
            "test": torch.where(events.test >= 0, events.test + before_events, -1),
        }
        for name, values in named.items():
            parts.setdefault(name, []).append(values)
        before_items += dataset.num_items
        before_events += dataset.num_events
    joined = {name: torch.cat(values) for name, values in parts.items()}
    stamps = [dataset.events.timestamps for dataset in datasets]
    known = [stamp for stamp in stamps if stamp is not None]
    timestamps = torch.cat(known) if len(known) == len(stamps) else None
    return Events(**joined, timestamps=timestamps)
