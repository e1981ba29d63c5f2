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
trackers.json         keys of the run's records in MLflow and Weights & Biases, where it has some
audit.json            the result of the last `audit`, with a checksum
ids/                  the run that supplied the item ids, where one was trained for it
checkpoints/          while training: last/ to resume from, best/ the weights chosen on validation
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from seqloom.core.damage import reading
from seqloom.core.device import resolve_device
from seqloom.core.errors import ArtefactError
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.locks import holder
from seqloom.core.progress import Progress
from seqloom.data.store import Dataset
from seqloom.hub.run_repositories import fetch_run, is_hub_address, upload_run
from seqloom.runs.manifest import RunManifest, read_manifest
from seqloom.runs.new_items import add_new_items
from seqloom.runs.published import check_published, write_published
from seqloom.runs.recommendations import Recommendations, recommend_histories
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
        histories: Sequence[Sequence[object]] | Sequence[object],
        k: int = 10,
        *,
        mask_seen: bool | None = None,
        approximate: bool = False,
        about: str | None = None,
        about_weight: float = DEFAULT_WEIGHT,
        dataset: Dataset | str | Path | None = None,
        progress: Progress = AUTO,
    ) -> Recommendations:
        """Returns the `k` best items for each history of item ids; one list of ids is one history.

        Ids that the catalogue does not hold are left out and named in the answer. An empty history gets
        popular items.

        Args:
            approximate: searches an index of the items instead of all items; its recall is measured first.
            dataset: where the recall of an approximate search is measured, if not on the run's data set.

        Raises:
            ConfigError: `k` is below 1, or the system cannot search approximately.
            DataError: a history holds no known item at all.
            ArtefactError: a history is empty, and the run does not know what is popular.
        """
        return recommend_histories(
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

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = True,
        licence: str | None = None,
        message: str = "Run of seqloom",
    ) -> str:
        """Publishes the run on the Hugging Face hub with a model card; `load_run("hf://...")` reads it.

        Weights, configuration, catalogue (ids and texts), item popularity, training log and metrics are
        published; paths of this machine and ranks, which hold user ids, are not. The content of the
        repository is replaced.

        Args:
            repository: `org/name`; created if it is missing.
            private: whether a new repository is private.
            licence: an identifier of the hub, such as `apache-2.0`, for the card.
            message: of the commit.

        Returns:
            The address of the repository's page.

        Raises:
            AssetError: the name is not allowed, there is no valid token, or the hub cannot be reached.
        """
        with tempfile.TemporaryDirectory(prefix="seqloom-push.") as folder:
            write_published(self, Path(folder), licence=licence)
            return upload_run(Path(folder), repository, private=private, message=message)

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


@public_function()
def load_run(path: str | Path, *, device: str = "cpu") -> Run:
    """Loads a complete run from a folder, or from the Hugging Face hub: `hf://org/name[@revision]`.

    A run from the hub is kept in the hub's cache and must not be changed there. Only safetensors, Parquet
    and text files are fetched, and the hashes of the manifest are checked as for any run.

    Raises:
        AssetError: the repository does not exist, holds no run, or the hub cannot be reached.
        ArtefactError: the folder is no run, unfinished, damaged or of another format version.
    """
    if is_hub_address(path):
        path = fetch_run(path)
        check_published(path)
    path = Path(path)
    manifest = read_manifest(path)
    if manifest.status != "complete":
        who = holder(path)
        if who is not None:
            raise ArtefactError(f"{path} is in progress: it is being trained by {who}; wait for it")
        raise ArtefactError(
            f"{path} is not finished; resume it with `seqloom train ... --out {path} --resume`"
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
