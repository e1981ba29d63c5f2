"""`train --foundation`: trains one recommender on several data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from seqloom.core.errors import ConfigError
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.data.store import Dataset, Events, write_dataset
from seqloom.distributed.processes import ALONE, Processes
from seqloom.pipelines.train.summary import TrainSummary
from seqloom.pipelines.train.train import train
from seqloom.systems.registry import config_key_hint, system_class
from seqloom.training.trackers import Tracker


@public_function(hint=config_key_hint)
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
    trackers: Sequence[str | Tracker] = (),
    progress: Progress = AUTO,
    processes: Processes = ALONE,
) -> TrainSummary:
    """Merges data sets into the folder `<out>-data` and trains on all of them.

    Raises:
        ConfigError: the system cannot learn from several data sets, or two of them have the same name.
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
        trackers=trackers,
        progress=progress,
        processes=processes,
    )


def merge(datasets: Sequence[Dataset], path: Path, *, renew: bool = False) -> Dataset:
    """Merges the items, users and events of data sets into one; ids become `<data set>/<id>`.

    Reuses a folder that already holds the same data sets; replaces another one only with `renew`. The
    option `origins` of the manifest lists how many items and users came from each.

    Raises:
        ConfigError: there is no data set, or two have the same folder name.
        ArtefactError: `path` holds something else.
    """
    names = [dataset.path.resolve().name for dataset in datasets]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice:
        raise ConfigError(
            f"two data sets are called {twice[0]!r}; rename one of the folders, because its name makes "
            "their ids distinct"
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
            **_nested_origins(dataset),
        }
        for name, dataset in zip(names, datasets, strict=True)
    ]
    if path.exists() and not renew:
        merged = Dataset.load(path)
        if merged.manifest.options.get("origins") == origins:
            return merged
    splits = sorted({str(d.manifest.options.get("split", "leave-one-out")) for d in datasets})
    users = [
        pa.table({"user_id": [f"{name}/{user}" for user in dataset.user_ids]})
        for name, dataset in zip(names, datasets, strict=True)
    ]
    return write_dataset(
        path,
        items=_merge_items(names, datasets),
        users=pa.concat_tables(users),
        events=merge_events(datasets),
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


def _nested_origins(dataset: Dataset) -> dict[str, Any]:
    """Returns the origins of a data set that was merged itself."""
    origins = dataset.manifest.options.get("origins")
    return {"origins": origins} if origins else {}


def _merge_items(names: Sequence[str], datasets: Sequence[Dataset]) -> pa.Table:
    """Concatenates the items with the union of their text columns; absent columns are null."""
    tables = []
    for name, dataset in zip(names, datasets, strict=True):
        ids = pa.array([f"{name}/{item}" for item in dataset.item_ids])
        tables.append(dataset.items.set_column(0, "item_id", ids))
    return pa.concat_tables(tables, promote_options="default")


def merge_events(datasets: Sequence[Dataset]) -> Events:
    """Concatenates events; users and items are numbered after those of the data set before."""
    parts: dict[str, list[torch.Tensor]] = {}
    before_items = before_events = 0
    for number, dataset in enumerate(datasets):
        events = dataset.events
        shifted = {
            "items": events.items + before_items,
            "offsets": events.offsets[min(number, 1) :] + before_events,
            "train_end": events.train_end + before_events,
            "valid": torch.where(events.valid >= 0, events.valid + before_events, -1),
            "test": torch.where(events.test >= 0, events.test + before_events, -1),
        }
        for name, values in shifted.items():
            parts.setdefault(name, []).append(values)
        before_items += dataset.num_items
        before_events += dataset.num_events
    joined = {name: torch.cat(values) for name, values in parts.items()}
    stamps = [dataset.events.timestamps for dataset in datasets]
    known = [stamp for stamp in stamps if stamp is not None]
    timestamps = torch.cat(known) if len(known) == len(stamps) else None
    return Events(**joined, timestamps=timestamps)
