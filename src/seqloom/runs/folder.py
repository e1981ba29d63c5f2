"""The folder of a run: a trained system, the data it was trained on, and its evaluations.

manifest.json         system, sizes, data set fingerprint, text embedding, versions, cost, status; the hashes
                      of the files below that training writes, which are checked when they are opened
config.yaml           the resolved configuration; round-trips
weights.safetensors   every tensor of the system; of a plug-in, not those of its language model
model/                what else the system needs (tokenizer, words, shapes of models), where it does
items.parquet         ids and texts of the catalogue, so that the run answers without the data set
popularity.safetensors  training events of each item
log.jsonl             one line an epoch; tensorboard/ holds the same
metrics*.json         results of `evaluate`, with a checksum and the hashes of the weights and of the ranks
ranks*.parquet        the rank of every user's target
audit.json            the result of the last `audit`, with a checksum
ids/                  the run that supplied the item ids, where one was trained for it
checkpoints/          while training: last/ to resume from, best/ the weights chosen on validation
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from seqloom.core.damage import reading
from seqloom.core.device import resolve_device
from seqloom.core.errors import ArtefactError
from seqloom.core.locks import holder
from seqloom.core.progress import SILENT, Progress
from seqloom.data.store import Dataset
from seqloom.runs.manifest import RunManifest, read_manifest
from seqloom.runs.new_items import add_new_items
from seqloom.runs.recommendations import recommend_histories
from seqloom.runs.run_files import (
    REMEDY,
    WEIGHTS,
    check_model_files,
    checked_config,
    read_weights,
)
from seqloom.runs.steering import DEFAULT_WEIGHT
from seqloom.runs.trained_run import TrainedRun
from seqloom.systems.base import MODEL_FOLDER, System, base_differences
from seqloom.systems.registry import system_class


class Run(TrainedRun):
    """A complete run that recommends, and takes new items in memory."""

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        mask_seen: bool = True,
        approximate: bool = False,
        about: str | None = None,
        about_weight: float = DEFAULT_WEIGHT,
        dataset: Dataset | str | Path | None = None,
        progress: Progress = SILENT,
    ) -> list[dict[str, Any]]:
        """Returns the `k` best items for each history of item ids; see `recommend_histories`."""
        lists = recommend_histories(
            self,
            histories,
            k=k,
            mask_seen=mask_seen,
            approximate=approximate,
            about=about,
            about_weight=about_weight,
            dataset=dataset,
            progress=progress,
        )
        return [each.model_dump() for each in lists]

    def add_items(self, items: pa.Table) -> None:
        """Adds new items to the catalogue in memory; `seqloom.add_items` writes a run.

        `items` has `item_id` and text columns, of which those of the catalogue are read.

        Raises:
            ConfigError: the system cannot, or an id is in the catalogue already.
            ArtefactError: the system needs a text embedding of the data set, and that is missing.
        """
        add_new_items(self, items)


def check_base(path: Path, manifest: RunManifest, system: System[Any]) -> None:
    """Checks that a plug-in has the language model that it was trained with.

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
    """Loads a complete run.

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
