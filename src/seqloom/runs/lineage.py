"""Records the data sets that a run's weights depend on, through all runs that it continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field

from seqloom.core.config import Config, read_config_file
from seqloom.core.errors import SeqloomError
from seqloom.core.files import read_json
from seqloom.data.store import Dataset


class DatasetReference(Config):
    """The data set of a run."""

    path: str
    """Its folder at the time of training."""
    fingerprint: str
    split: str = "leave-one-out"
    training: str = ""
    """SHA-256 of the training part; empty in a run of an older seqloom."""


class TrainedOn(Config):
    """A data set that a run's weights depend on."""

    path: str
    """Its folder at the time of training."""
    fingerprint: str
    logs: list[str] = Field(default_factory=list)
    """SHA-256 of the files of its events, if they were read from files."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.path).name


class Lineage(Config):
    """All data sets that a run's weights depend on."""

    datasets: list[TrainedOn] = Field(default_factory=list)
    unknown: list[str] = Field(default_factory=list)
    """Reasons why data sets could not be traced; if there are none, the list is complete."""

    def __add__(self, other: Self) -> Lineage:
        """Returns the union of both."""
        return Lineage(
            datasets=[*self.datasets, *(d for d in other.datasets if d not in self.datasets)],
            unknown=[*self.unknown, *other.unknown],
        )

    def holds(self, dataset: Dataset) -> TrainedOn | None:
        """Returns the data set of the lineage that equals `dataset` or was made from the same log.

        Looks for the parts of a merged data set too.
        """
        parts = _of_dataset(dataset)
        prints = {each.fingerprint for each in parts}
        logs = {log for each in parts for log in each.logs}
        for known in self.datasets:
            if known.fingerprint in prints or logs.intersection(known.logs):
                return known
        return None


def lineage_of(dataset: Dataset, start_from: str | Path | None) -> Lineage:
    """Returns the lineage of a training on `dataset` that continues the run `start_from`, if given."""
    own = Lineage(datasets=_of_dataset(dataset))
    return own if start_from is None else own + lineage_of_run(Path(start_from))


def lineage_of_run(run: Path) -> Lineage:
    """Returns the lineage that a run recorded, or traces it for a run of an older seqloom."""
    try:
        manifest = read_json(run / "manifest.json", "run")
        if manifest.get("lineage") is not None:
            return Lineage.build(manifest["lineage"])
        start_from = read_config_file(run / "config.yaml").get("start_from")
        reference = manifest["dataset"]
    except (SeqloomError, KeyError, AttributeError) as error:
        return Lineage(unknown=[f"{run} cannot be read ({error})"])
    earlier = Lineage() if start_from is None else lineage_of_run(Path(start_from))
    return _of_reference(run, reference) + earlier


def _of_reference(run: Path, reference: dict[str, Any]) -> Lineage:
    """Traces the data set of a run of an older seqloom; only the data set's folder lists its parts."""
    path, fingerprint = str(reference["path"]), str(reference["fingerprint"])
    try:
        dataset = Dataset.load(path)
    except SeqloomError:
        dataset = None
    if dataset is not None and dataset.fingerprint == fingerprint:
        return Lineage(datasets=_of_dataset(dataset))
    return Lineage(
        datasets=[TrainedOn(path=path, fingerprint=fingerprint)],
        unknown=[
            f"an older seqloom made {run} without a record of it, and its data set is no longer at {path}"
        ],
    )


def _of_dataset(dataset: Dataset) -> list[TrainedOn]:
    """Returns the data set and those that were merged into it."""
    manifest = dataset.manifest
    logs = [str(s["sha256"]) for s in manifest.sources if s.get("role") == "log" and "sha256" in s]
    own = TrainedOn(path=str(dataset.path.resolve()), fingerprint=dataset.fingerprint, logs=logs)
    return [own, *_of_origins(manifest.options.get("origins", []))]


def _of_origins(origins: list[dict[str, Any]]) -> list[TrainedOn]:
    trained_on = []
    for origin in origins:
        trained_on.append(
            TrainedOn(path=str(origin["path"]), fingerprint=str(origin["fingerprint"]))
        )
        trained_on += _of_origins(origin.get("origins", []))
    return trained_on
