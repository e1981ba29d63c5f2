"""`evaluate`: ranks the held-out part of a run's data set, with one protocol for every system."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import read_json, sha256_file, write_json
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.protocols import ExtendsCatalogue, Scorer
from seqloom.core.tabular import Tabular
from seqloom.data.store import Dataset, HeldOut, Part
from seqloom.distributed.processes import ALONE, Processes
from seqloom.evaluation.groups import GroupThresholds, default_thresholds, group_metrics
from seqloom.evaluation.metrics import list_metrics, rank_metrics
from seqloom.evaluation.negatives import NEGATIVES, count_users_with_fewer, sample_negatives
from seqloom.evaluation.protocol import RankingProtocol, StoredProtocol
from seqloom.evaluation.ranking import Ranks, rank_targets
from seqloom.evaluation.ranks_file import RankTable, build_rank_table, write_ranks
from seqloom.pipelines.evaluate.cold_items import ColdItems, ColdScorers, cold_scorers, rank_cold
from seqloom.runs.folder import Run, load_run
from seqloom.runs.manifest import RunManifest, read_manifest
from seqloom.runs.writer_lock import writer_lock

LIST_LENGTH = 20
NEGATIVES_SEED = 0
Protocol = Literal["full", "sampled"]
_FIRST = ("ndcg@10", "hr@10", "mrr")
_AGAIN = "run `seqloom evaluate` on the run again"


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
    repeat_target and new_target: each `users` and `metrics` (None without users)."""
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


@public_function()
def evaluate(
    run: Run | str | Path,
    *,
    protocol: Protocol = "full",
    on: Part = "test",
    mask_seen: bool = True,
    negatives: int = NEGATIVES,
    tail_item_below: int | None = None,
    tail_user_below: int | None = None,
    dataset: Dataset | str | Path | None = None,
    device: str = "auto",
    progress: Progress = AUTO,
    processes: Processes = ALONE,
) -> Evaluation:
    """Ranks every held-out target and writes `metrics*.json` and `ranks*.parquet` into the run.

    Several processes that each make this call divide the users; the first one writes.

    A count below `tail_item_below` (training events of the target) or `tail_user_below` (of the user)
    belongs to a tail group; the thresholds default to the 80/20 ones of the data set.

    Raises:
        ArtefactError: `run` is not a run, or its data set is missing or another one.
        ConfigError: the data set has no event in that part.
    """
    run = run if isinstance(run, Run) else load_run(run, device=device)
    with writer_lock(run.path, processes, progress):
        return _evaluate(
            run,
            dataset,
            protocol,
            on,
            (tail_item_below, tail_user_below),
            progress,
            processes,
            mask_seen=mask_seen,
            negatives=negatives,
        )


def _evaluate(
    run: Run,
    dataset: Dataset | str | Path | None,
    protocol: Protocol,
    on: Part,
    tail_below: tuple[int | None, int | None],
    progress: Progress,
    processes: Processes,
    *,
    mask_seen: bool,
    negatives: int,
) -> Evaluation:
    data = dataset if isinstance(dataset, Dataset) else run.dataset(dataset, with_cold=True)
    held_out = data.held_out(on)
    if not len(held_out.users):
        raise ConfigError(f"the data set has no {on} events; prepare it with another split")
    details = RankingProtocol(
        kind=protocol,
        part=on,
        masked=mask_seen,
        split=data.split,
        negatives=negatives if protocol == "sampled" else None,
        seed=NEGATIVES_SEED if protocol == "sampled" else None,
        fingerprint=data.fingerprint,
    )
    thresholds = choose_thresholds(data, *tail_below)
    given = tail_below != (None, None)
    ranked = _rank(run, data, held_out, details, progress, processes)
    table = build_rank_table(
        data,
        details,
        users=held_out.users,
        targets=held_out.targets,
        ranks=ranked.ranks.ranks,
        history_lengths=held_out.histories.lengths,
        repeats=held_out.repeats,
        thresholds=thresholds,
    )
    evaluation = _build_evaluation(run, data, details, ranked, table, given=given)
    if processes.rank == 0:
        metrics_file, ranks_file = evaluation_files(run.path, details)
        write_ranks(ranks_file, table)
        update = {
            "weights_sha256": run.manifest.evaluated_weights,
            "ranks_sha256": sha256_file(ranks_file),
        }
        evaluation = evaluation.model_copy(update=update)
        write_json(metrics_file, evaluation.model_dump(mode="json"), sealed=True)
    return evaluation


def choose_thresholds(
    dataset: Dataset, tail_item_below: int | None, tail_user_below: int | None
) -> GroupThresholds:
    """Returns the given thresholds; the 80/20 ones of the data set replace missing ones."""
    defaults = default_thresholds(dataset)
    return GroupThresholds(
        item=defaults.item if tail_item_below is None else tail_item_below,
        user=defaults.user if tail_user_below is None else tail_user_below,
    )


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


def trained_scorer(run: Run) -> Scorer:
    """Returns the scorer of the trained items; the protocol excludes items that were added later."""
    if not run.manifest.added_items:
        return run.scorer
    first = {name: table[: run.trained_items] for name, table in run.item_tables.items()}
    return cast(ExtendsCatalogue, run.system).scorer_over(first)


@dataclass(frozen=True)
class _Ranked:
    """Ranks of all targets, and of the cold ones beside their baselines."""

    ranks: Ranks
    cold: ColdItems | None
    seconds: float
    """Time to score and rank all targets."""


def rank_held_out(
    run: Run,
    data: Dataset,
    held_out: HeldOut,
    details: RankingProtocol,
    progress: Progress,
    processes: Processes = ALONE,
) -> tuple[Ranks, ColdScorers | None]:
    """Ranks targets under a protocol; also returns the scorers of cold items, if there are any."""
    cold = cold_scorers(run, data, progress) if data.num_cold_items else None
    ranks = rank_targets(
        cold.everything if cold else trained_scorer(run),
        held_out,
        popularity=data.popularity[1:],
        max_len=run.system.max_len,
        mask_seen=details.masked,
        negatives=_sample_negatives(data, held_out, details, progress),
        list_length=LIST_LENGTH if details.kind == "full" else 0,
        keys=data.tie_keys,
        device=run.device,
        progress=progress,
        processes=processes,
    )
    return ranks, cold


def _rank(
    run: Run,
    data: Dataset,
    held_out: HeldOut,
    details: RankingProtocol,
    progress: Progress,
    processes: Processes,
) -> _Ranked:
    started = time.monotonic()
    ranks, cold = rank_held_out(run, data, held_out, details, progress, processes)
    seconds = time.monotonic() - started
    if cold is None or details.kind == "sampled":
        return _Ranked(ranks, None, seconds)
    masked = details.masked
    cold_items = rank_cold(run, data, held_out, cold, ranks.ranks, masked=masked, progress=progress)
    return _Ranked(ranks, cold_items, seconds)


def _sample_negatives(
    data: Dataset, held_out: HeldOut, details: RankingProtocol, progress: Progress
) -> Tensor | None:
    if details.kind == "full":
        return None
    assert details.negatives is not None
    drawn = sample_negatives(
        data, held_out.users, details.negatives, details.seed or NEGATIVES_SEED
    )
    fewer = count_users_with_fewer(drawn)
    if fewer:
        progress.warn(
            f"{fewer} users have fewer than {details.negatives} items left to sample; their "
            "target is ranked among all of these"
        )
    return drawn


def _build_evaluation(
    run: Run,
    data: Dataset,
    details: RankingProtocol,
    ranked: _Ranked,
    table: RankTable,
    *,
    given: bool,
) -> Evaluation:
    ranks = ranked.ranks
    metrics = rank_metrics(ranks.ranks)
    # Where the users have seen every item, no list holds one.
    if details.kind == "full" and bool((ranks.lists > 0).any()):
        metrics |= list_metrics(ranks.lists, data.popularity)
    return Evaluation(
        run=str(run.path),
        system=run.manifest.system,
        protocol=details.kind,
        details=details,
        statement=details.statement(),
        thresholds=table.thresholds,
        thresholds_given=given,
        users=len(ranks.users),
        metrics=metrics,
        groups=group_metrics(ranks.ranks, table.members),
        cold=ranked.cold,
        seconds=round(ranked.seconds, 3),
    )
