"""Which data sets have a part in a run's weights, through every run that it went on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field

from seqloom.core.config import Config, read_config_file
from seqloom.core.errors import SeqloomError
from seqloom.core.files import read_json
from seqloom.data.store import Dataset


class DatasetReference(Config):
    """The data set a run was trained on."""

    path: str
    """Where it was then."""
    fingerprint: str
    split: str = "leave-one-out"
    training: str = ""
    """SHA-256 of the training part; empty in a run of an older seqloom."""


class TrainedOn(Config):
    """A data set that went into a run's weights."""

    path: str
    """Where it was then."""
    fingerprint: str
    logs: list[str] = Field(default_factory=list)
    """SHA-256 of the files that its events were read from, where they were files."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.path).name


class Lineage(Config):
    """All data sets that went into a run's weights."""

    datasets: list[TrainedOn] = Field(default_factory=list)
    unknown: list[str] = Field(default_factory=list)
    """What could not be traced, in words; the list is complete where there is none."""

    def __add__(self, other: Self) -> Lineage:
        """Both together."""
        return Lineage(
            datasets=[*self.datasets, *(d for d in other.datasets if d not in self.datasets)],
            unknown=[*self.unknown, *other.unknown],
        )

    def holds(self, dataset: Dataset) -> TrainedOn | None:
        """The data set of the lineage that `dataset` is, or that was made from the same log.

        The parts of a data set of several are looked for as well.
        """
        wanted = _of_dataset(dataset)
        prints = {each.fingerprint for each in wanted}
        logs = {log for each in wanted for log in each.logs}
        for known in self.datasets:
            if known.fingerprint in prints or logs.intersection(known.logs):
                return known
        return None


def lineage_of(dataset: Dataset, start_from: str | Path | None) -> Lineage:
    """What a training on `dataset` that goes on from the run `start_from` is trained on."""
    own = Lineage(datasets=_of_dataset(dataset))
    return own if start_from is None else own + lineage_of_run(Path(start_from))


def lineage_of_run(run: Path) -> Lineage:
    """What a run was trained on: as it recorded, or traced anew if it is of an older seqloom."""
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
    """A data set by what a run of an older seqloom says of it: its parts are in its own folder alone."""
    path, fingerprint = str(reference["path"]), str(reference["fingerprint"])
    try:
        found = Dataset.load(path)
    except SeqloomError:
        found = None
    if found is not None and found.fingerprint == fingerprint:
        return Lineage(datasets=_of_dataset(found))
    return Lineage(
        datasets=[TrainedOn(path=path, fingerprint=fingerprint)],
        unknown=[
            f"{run} is of an older seqloom, which did not record it, and its data set is no longer at {path}"
        ],
    )


def _of_dataset(dataset: Dataset) -> list[TrainedOn]:
    """The data set, and those that were laid together in it."""
    manifest = dataset.manifest
    logs = [str(s["sha256"]) for s in manifest.sources if s.get("role") == "log" and "sha256" in s]
    own = TrainedOn(path=str(dataset.path.resolve()), fingerprint=dataset.fingerprint, logs=logs)
    return [own, *_of_origins(manifest.options.get("origins", []))]


def _of_origins(origins: list[dict[str, Any]]) -> list[TrainedOn]:
    found = []
    for origin in origins:
        found.append(TrainedOn(path=str(origin["path"]), fingerprint=str(origin["fingerprint"])))
        found += _of_origins(origin.get("origins", []))
    return found
