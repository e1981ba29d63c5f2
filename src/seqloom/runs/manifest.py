"""The record of a run, in `manifest.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import read_json, write_json
from seqloom.core.records import FileRecord
from seqloom.data.store import Dataset
from seqloom.runs.lineage import DatasetReference, Lineage
from seqloom.runs.run_files import REMEDY
from seqloom.systems.base import Sizes

FORMAT_VERSION = 1


class TrainingCost(Config):
    """The resources that training took."""

    epochs: int = 0
    """Epochs of all phases together."""
    seconds_per_epoch: list[float] = Field(default_factory=list)
    targets_per_epoch: int = 0
    """Training targets in an epoch of the last phase."""
    seconds_total: float = 0.0
    """Wall-clock seconds, validation included; of all attempts of a resumed run together."""
    members_seconds: float = 0.0
    """Seconds that training the members of an ensemble took, beside `seconds_total`."""
    peak_rss_mb: float = 0.0
    """Largest memory of the training process, MiB."""
    device: str = "cpu"
    threads: int = 0
    """Threads of a CPU's sums, which decide their bits; 0 in a run of an older seqloom."""
    processes: int = 1
    """Processes that divided each batch."""

    @property
    def seconds_with_members(self) -> float:
        """Seconds of training, with the members of an ensemble."""
        return round(self.seconds_total + self.members_seconds, 3)


class MemberReference(Config):
    """A member of an ensemble."""

    run: str
    """Where it was then."""
    system: str
    weights_sha256: str
    seconds_total: float = 0.0
    """Seconds of its own training."""
    embed_seconds: dict[str, float] = Field(default_factory=dict)
    """Seconds of embedding its texts, as in `RunManifest`: members may share them."""


class RunManifest(Config):
    """The metadata of a run."""

    format: Literal["seqloom-run"] = "seqloom-run"
    version: int = FORMAT_VERSION
    seqloom: str
    system: str
    sizes: Sizes
    dataset: DatasetReference
    text: dict[str, Any] | None = None
    """The text embedding's name, encoder and content hash, where the system uses one."""
    further_texts: list[dict[str, Any]] = Field(default_factory=list)
    """The same of each further text embedding that it uses."""
    ids: dict[str, Any] | None = None
    """The run whose item vectors the system started from, where it takes some."""
    base: dict[str, Any] | None = None
    """The frozen language model that the run is a plug-in of: name, weights' hash, layers."""
    members: list[MemberReference] = Field(default_factory=list)
    """The runs that an ensemble holds."""
    added_items: int = 0
    """Items added after training, without events; the last of the catalogue."""
    lineage: Lineage | None = None
    """The data sets that have a part in the weights; None in a run of an older seqloom."""
    saw: dict[str, str] = Field(default_factory=dict)
    """The part of the data that each input of the run has seen; empty in a run of an older seqloom."""
    start: dict[str, list[float]] = Field(default_factory=dict)
    """Two numbers for each state entry before the first step, by which `audit` recognises it."""
    versions: dict[str, str]
    """Of Python and of the libraries that the numbers depend on."""
    status: Literal["training", "complete"] = "training"
    parameters: int = 0
    """Tensor entries of the system, trained or not."""
    trained_parameters: int = 0
    best_phase: str | None = None
    """The phase of the weights that were kept; None too in a run of an older seqloom."""
    best_epoch: int | None = None
    """The epoch of that phase, from 1."""
    valid: dict[str, float] = Field(default_factory=dict)
    """Validation metrics of the weights that were kept."""
    valid_protocol: int = 1
    """`evaluation.protocol.PROTOCOL_VERSION` under which they were measured."""
    mask_seen: bool = True
    """Whether seen items are left out of validation, evaluation and lists, unless a call says otherwise; the
    decision of the data set. Runs of older versions of seqloom masked them always."""
    cost: TrainingCost = Field(default_factory=TrainingCost)
    weights_sha256: str = ""
    trained_sha256: str = ""
    """Of the weights at the end of training, before items were added; empty in a run of an older seqloom."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each further file of the system, by its path in the run."""
    config_sha256: str = ""
    """Of the values of `config.yaml`, without the keys that only say where something lies."""
    records: dict[str, FileRecord] = Field(default_factory=dict)
    """The hashes of catalogue, popularity and log, by their names; empty in a run of an older seqloom."""

    @property
    def evaluated_weights(self) -> str:
        """SHA-256 of the weights that evaluations are about: added items change none of them."""
        return self.trained_sha256 or self.weights_sha256

    @property
    def embed_seconds(self) -> dict[str, float]:
        """Seconds of embedding the texts of items and users, by the hash of the vectors, and those of
        tuning the encoder by the log, by the hash of its weights."""
        own: dict[str, float] = {}
        for text in self.texts:
            for part in filter(None, (text.get("items"), text.get("users"))):
                own[part["content_hash"]] = float(part.get("seconds", 0.0))
            if text.get("tuning_seconds"):
                own[text["encoder"]["weights_sha256"]] = float(text["tuning_seconds"])
        return own | {k: v for member in self.members for k, v in member.embed_seconds.items()}

    @property
    def texts(self) -> list[dict[str, Any]]:
        """The text embeddings that the system uses."""
        return self.further_texts if self.text is None else [self.text, *self.further_texts]


def check_fingerprint(manifest: RunManifest, dataset: Dataset) -> None:
    """Checks that a data set is the one that a run was trained on.

    Raises:
        ArtefactError: it is another one.
    """
    if dataset.fingerprint != manifest.dataset.fingerprint:
        raise ArtefactError(
            f"{dataset.path} is not the data set of the run: its fingerprint is "
            f"{dataset.fingerprint[:12]}, the run was trained on "
            f"{manifest.dataset.fingerprint[:12]}; give the data set it was trained on, or train again"
        )


def read_manifest(path: Path) -> RunManifest:
    """Reads and checks the manifest of a run.

    Raises:
        ArtefactError: the folder is no run, or of another format version.
    """
    raw = read_json(path / "manifest.json", "run")
    if not isinstance(raw, dict) or raw.get("format") != "seqloom-run":
        raise ArtefactError(f"{path} is no run; make one with `seqloom train`")
    if raw.get("version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has run format {raw.get('version')}, this seqloom reads {FORMAT_VERSION}; "
            "train again"
        )
    with reading(path / "manifest.json", "the manifest of a run", REMEDY):
        return RunManifest.build(raw)


def write_manifest(path: Path, manifest: RunManifest) -> None:
    """Writes the manifest of a run atomically, with its own checksum."""
    write_json(path / "manifest.json", manifest.model_dump(mode="json"), sealed=True)
