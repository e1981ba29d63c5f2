"""What lies in a folder: runs with their metrics, and one run or data set. Reads JSON alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from seqloom.core.config import Config, read_config_file
from seqloom.core.errors import ArtefactError, SeqloomError
from seqloom.core.files import read_json
from seqloom.core.tabular import Tabular

_DEPTH = 4
"""Folders below the given one that are searched for runs."""
_METRICS = ("ndcg@10", "hr@10")


class ListedRun(Config):
    """One run of a folder."""

    run: str
    """Its folder, from the given one."""
    system: str | None
    dataset: str | None
    """Name of the folder of its data set."""
    status: str
    """`complete`, `training` (unfinished), or `damaged`."""
    epochs: int | None = None
    seconds: float | None = None
    """Duration of the training."""
    valid: dict[str, float] = Field(default_factory=dict)
    test: dict[str, float] = Field(default_factory=dict)
    """Of the full ranking with seen items masked; empty where it was not evaluated."""
    problem: str | None = None
    """What is damaged."""


class RunList(Tabular, Config):
    """The runs of a folder: of one data set together, the best on the test part first."""

    folder: str
    runs: list[ListedRun]

    def headline(self) -> str:
        """Returns the folder and the number of runs, on one line."""
        return f"{len(self.runs)} run{'s' if len(self.runs) != 1 else ''} in {self.folder}"

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns one row a run, with the usual metrics."""
        return [
            {
                "run": each.run,
                "system": each.system,
                "data set": each.dataset,
                "status": each.status,
                "epochs": each.epochs,
                "seconds": each.seconds,
                **{f"valid {name}": each.valid.get(name) for name in _METRICS[:1]},
                **{f"test {name}": each.test.get(name) for name in _METRICS},
            }
            for each in self.runs
        ]


class Description(Tabular, Config):
    """A run or a data set, from its manifest."""

    path: str
    kind: str
    """`run` or `data set`."""
    values: dict[str, Any]
    """What it is, by labels."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The configuration of a run, or the options of a data set that differ from the defaults."""
    rows: list[dict[str, Any]] = Field(default_factory=list)
    """The evaluations of a run, or the text embeddings of a data set."""
    warnings: list[str] = Field(default_factory=list)
    """Warnings about the input of a data set."""

    def headline(self) -> str:
        """Returns kind and place, on one line."""
        return f"{self.kind} {self.path}"

    def facts(self) -> dict[str, Any]:
        """Returns what it is, by labels."""
        return self.values

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns evaluations or embeddings."""
        return self.rows


def list_runs(folder: str | Path = ".") -> RunList:
    """Lists the runs in a folder and in folders below it.

    Raises:
        ArtefactError: the folder does not exist.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ArtefactError(f"there is no folder {root}; give the folder that holds the runs")
    runs = [_listed(path, root) for path in _run_folders(root)]
    runs.sort(key=lambda run: (run.dataset or "", -run.test.get(_METRICS[0], -1.0), run.run))
    return RunList(folder=str(root), runs=runs)


def describe(path: str | Path) -> Description:
    """Describes one run or data set.

    Raises:
        ArtefactError: the folder is neither, or its manifest is damaged.
    """
    folder = Path(path)
    raw = read_json(folder / "manifest.json", "run or data set")
    kind = raw.get("format") if isinstance(raw, dict) else None
    try:
        if kind == "seqloom-run":
            return _describe_run(folder, raw)
        if kind == "seqloom-dataset":
            return _describe_dataset(folder, raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{folder / 'manifest.json'} is damaged: {error!r}") from None
    raise ArtefactError(f"{folder} is neither a run nor a prepared data set")


def _run_folders(root: Path) -> Iterator[Path]:
    """Yields the folders with a run's manifest; does not look inside runs."""
    for place, folders, files in os.walk(root):
        folder = Path(place)
        if "manifest.json" in files and "config.yaml" in files:
            folders.clear()
            yield folder
        elif len(folder.relative_to(root).parts) >= _DEPTH:
            folders.clear()
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))


def _listed(path: Path, root: Path) -> ListedRun:
    name = str(path.relative_to(root)) if path != root else path.resolve().name
    try:
        raw = read_json(path / "manifest.json", "run")
        cost = raw["cost"]
        return ListedRun(
            run=name,
            system=raw["system"],
            dataset=Path(raw["dataset"]["path"]).name,
            status=raw["status"],
            epochs=cost["epochs"],
            seconds=cost["seconds_total"],
            valid=raw["valid"],
            test=_test_metrics(path),
        )
    except (SeqloomError, KeyError, TypeError, ValueError) as error:
        return ListedRun(run=name, system=None, dataset=None, status="damaged", problem=str(error))


def _test_metrics(run: Path) -> dict[str, float]:
    file = run / "metrics.json"
    if not file.exists():
        return {}
    metrics: dict[str, float] = read_json(file, "evaluation")["metrics"]
    return metrics


def _describe_run(path: Path, raw: dict[str, Any]) -> Description:
    cost = raw["cost"]
    values = {
        "system": raw["system"],
        "status": raw["status"],
        "data set": raw["dataset"]["path"],
        "split": raw["dataset"].get("split"),
        "items": raw["sizes"]["num_items"],
        "parameters": raw["parameters"],
        "epochs": cost["epochs"],
        "best epoch": raw.get("best_epoch"),
        "training seconds": cost["seconds_total"],
        "device": cost["device"],
        "seqloom": raw["seqloom"],
        **{f"validation {name}": value for name, value in raw["valid"].items()},
    }
    rows = []
    for file in sorted(path.glob("metrics*.json")):
        document = read_json(file, "evaluation")
        groups = {"all": document, **document["groups"]}
        for group, found in groups.items():
            metrics = found["metrics"] or {}
            shown = {name: metrics.get(name) for name in ("hr@10", "ndcg@10", "mrr")}
            rows.append(
                {"evaluation": file.stem, "users": group, "number": found["users"], **shown}
            )
    config = read_config_file(path / "config.yaml") if (path / "config.yaml").exists() else {}
    return Description(path=str(path), kind="run", values=values, config=config, rows=rows)


def _describe_dataset(path: Path, raw: dict[str, Any]) -> Description:
    facts, options = raw["statistics"], raw["options"]
    values = {
        name: facts[key]
        for name, key in {
            "users": "users",
            "items": "items",
            "events": "events",
            "events per user": "mean_length",
            "first event": "first_date",
            "last event": "last_date",
            "items without text": "items_without_text",
            "training events": "train_events",
            "validation targets": "valid_targets",
            "test targets": "test_targets",
            "cold items": "cold_items",
        }.items()
        if key in facts
    }
    values |= {"split": options.get("split"), "made by seqloom": raw["seqloom"]}
    sources = ", ".join(str(s.get("path") or s.get("frame")) for s in raw["sources"])
    return Description(
        path=str(path),
        kind="data set",
        values=values | {"made from": sources},
        config={name: value for name, value in options.items() if value is not None},
        rows=[_embedding(file) for file in sorted(path.glob("text/*/manifest.json"))],
        warnings=[str(each["message"]) for each in raw["warnings"]],
    )


def _embedding(file: Path) -> dict[str, Any]:
    raw = read_json(file, "text embeddings")
    return {"text embeddings": file.parent.name, "encoder": raw.get("encoder", {}).get("name")}
