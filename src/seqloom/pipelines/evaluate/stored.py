"""Evaluations of a run: their model, and their files in the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import read_json, sha256_file
from seqloom.core.tabular import Tabular
from seqloom.evaluation.groups import GroupThresholds
from seqloom.evaluation.protocol import RankingProtocol, StoredProtocol
from seqloom.evaluation.record import OtherProtocol
from seqloom.pipelines.evaluate.cold_items import ColdItems
from seqloom.runs.manifest import RunManifest, read_manifest

Protocol = Literal["full", "sampled"]
_AGAIN = "run `seqloom evaluate` on the run again"

_FIRST = ("ndcg@10", "hr@10", "mrr")


class Evaluation(Tabular, Config):
    """The result of `evaluate`."""

    run: str
    system: str
    protocol: Protocol
    details: StoredProtocol
    """The full protocol; only evaluations with equal protocols are compared."""
    statement: str
    """The protocol in sentences."""
    thresholds: GroupThresholds
    thresholds_given: bool = False
    """Whether a threshold was set by hand; if not, both were computed from the training part."""
    users: int
    metrics: dict[str, float]
    """hr and ndcg at 5, 10 and 20, mrr; full ranking adds coverage, popularity and novelty."""
    groups: dict[str, dict[str, Any]]
    """tail_item, head_item, tail_user, head_user; with cold items cold_item and warm_item; with users
    who have no history new_user and known_user; if a target is an item of the user's history
    repeat_target and new_target; if a target has the time of another item of its user tied_target and
    untied_target: each `users` and `metrics` (None without users)."""
    decision: str = ""
    """How it was decided whether seen items are masked; empty in an evaluation of an older seqloom."""
    other: OtherProtocol | None = None
    """The same scores under the other decision, which have files of their own; None for sampled ranking, for
    systems that list items by a search, and in an evaluation of an older seqloom."""
    cold: ColdItems | None = None
    """Users whose target is a cold item, with baselines; None if no target is cold."""
    seconds: float
    """Time to score and rank."""
    weights_sha256: str = ""
    """SHA-256 of the evaluated weights; empty in an evaluation of an older seqloom."""
    ranks_sha256: str = ""
    """SHA-256 of the file with the ranks; empty in an evaluation of an older seqloom."""

    def headline(self) -> str:
        """Returns what was evaluated, on one line."""
        return f"Evaluation of {Path(self.run).name} ({self.system}), {self.protocol} ranking"

    def facts(self) -> dict[str, Any]:
        """Returns the number of users and the metrics over all of them, the usual ones first."""
        first = {name: self.metrics[name] for name in _FIRST if name in self.metrics}
        return {"users": self.users, **first, **self.metrics}

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns one row for all users and one a group, with its users and metrics."""
        found = (group["metrics"] for group in self.groups.values() if group["metrics"])
        names = list(next(found, self.metrics))
        return [
            {"group": name, "users": users, **{key: (metrics or {}).get(key) for key in names}}
            for name, users, metrics in (
                ("all", self.users, self.metrics),
                *((name, g["users"], g["metrics"]) for name, g in self.groups.items()),
            )
        ]


def evaluation_files(run: Path, details: RankingProtocol) -> tuple[Path, Path]:
    """Returns the files of an evaluation's metrics and ranks; the default protocol has no suffix."""
    suffix = "" if details.part == "test" else f"-{details.part}"
    if details.kind == "sampled":
        suffix += f"-sampled{details.negatives}"
    if not details.masked:
        suffix += "-unmasked"
    return run / f"metrics{suffix}.json", run / f"ranks{suffix}.parquet"


def read_evaluation(run: Path, details: RankingProtocol) -> Evaluation | None:
    """Reads the evaluation under this protocol, if there is one.

    Raises:
        ArtefactError: it is damaged, was changed, or belongs to other weights or other ranks.
    """
    file, ranks = evaluation_files(run, details)
    if not file.exists() or not ranks.exists():
        return None
    evaluation = read_metrics(file, read_manifest(run))
    if evaluation.details != details:
        return None
    with reading(ranks, "the ranks of an evaluation", _AGAIN):
        sha256 = sha256_file(ranks)
    if evaluation.ranks_sha256 not in ("", sha256):
        raise ArtefactError(
            f"{ranks} was damaged or changed since {file.name} was written: it has SHA-256 {sha256[:12]}, "
            f"expected {evaluation.ranks_sha256[:12]}; {_AGAIN}"
        )
    return evaluation


def read_metrics(file: Path, manifest: RunManifest) -> Evaluation:
    """Reads one `metrics*.json` of the run that `manifest` describes.

    Raises:
        ArtefactError: it is damaged, was changed, or belongs to other weights.
    """
    raw = read_json(file, "evaluation")
    with reading(file, "an evaluation", _AGAIN):
        evaluation = Evaluation.build(raw)
    if evaluation.weights_sha256 not in ("", manifest.evaluated_weights):
        raise ArtefactError(
            f"{file} belongs to weights {evaluation.weights_sha256[:12]}, the run has "
            f"{manifest.evaluated_weights[:12]}; {_AGAIN}"
        )
    return evaluation


def former_evaluation(run: Path, details: RankingProtocol) -> Evaluation | None:
    """Reads the evaluation under a former version of this protocol, if there is one."""
    file, _ = evaluation_files(run, details)
    if not file.exists():
        return None
    raw = read_json(file, "evaluation")
    with reading(file, "an evaluation", _AGAIN):
        evaluation = Evaluation.build(raw)
    updated = evaluation.details.model_copy(update={"version": details.version})
    return evaluation if evaluation.details.outdated and updated == details else None


def thresholds_are_given(ranks: Path) -> bool:
    """Returns whether the evaluation that wrote the rank file `ranks` had thresholds set by hand."""
    file = ranks.with_name(ranks.name.replace("ranks", "metrics", 1)).with_suffix(".json")
    if not file.exists():
        return False
    raw = read_json(file, "evaluation")
    with reading(file, "an evaluation", _AGAIN):
        return Evaluation.build(raw).thresholds_given
