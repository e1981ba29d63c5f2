"""`evaluate`: ranks the held-out part of a run's data set, with one protocol for every system."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.files import sha256_file, write_json
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.protocols import ExtendsCatalogue, Scorer
from seqloom.data.repeats import mask_reason
from seqloom.data.store import Dataset, HeldOut, Part
from seqloom.distributed.processes import ALONE, Processes
from seqloom.evaluation.groups import GroupThresholds, default_thresholds, group_metrics
from seqloom.evaluation.metrics import list_metrics, rank_metrics
from seqloom.evaluation.negatives import NEGATIVES, count_users_with_fewer, sample_negatives
from seqloom.evaluation.protocol import RankingProtocol
from seqloom.evaluation.ranking import Ranks, rank_targets
from seqloom.evaluation.ranks_file import RankTable, build_rank_table, write_ranks
from seqloom.evaluation.record import GroupResult, OtherProtocol
from seqloom.pipelines.evaluate.cold_items import ColdItems, ColdScorers, cold_scorers, rank_cold
from seqloom.pipelines.evaluate.stored import Evaluation, Protocol, evaluation_files
from seqloom.runs.folder import Run, load_run
from seqloom.runs.writer_lock import writer_lock

LIST_LENGTH = 20
NEGATIVES_SEED = 0


@public_function()
def evaluate(
    run: Run | str | Path,
    *,
    protocol: Protocol = "full",
    on: Part = "test",
    mask_seen: bool | None = None,
    both: bool = True,
    negatives: int = NEGATIVES,
    tail_item_below: int | None = None,
    tail_user_below: int | None = None,
    dataset: Dataset | str | Path | None = None,
    device: str = "auto",
    progress: Progress = AUTO,
    processes: Processes = ALONE,
) -> Evaluation:
    """Ranks every held-out target and writes `metrics*.json` and `ranks*.parquet` into the run.

    Seen items are masked as the run was trained (`RunManifest.mask_seen`), or by `mask_seen`. With `both`,
    full ranking also ranks the same scores by the other decision, at little cost, and writes that beside;
    systems that list items by a search have one ranking.

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
            both=both and protocol == "full",
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
    mask_seen: bool | None,
    both: bool,
    negatives: int,
) -> Evaluation:
    data = dataset if isinstance(dataset, Dataset) else run.dataset(dataset, with_cold=True)
    held_out = data.held_out(on)
    if not len(held_out.users):
        raise ConfigError(f"the data set has no {on} events; prepare it with another split")
    details = RankingProtocol(
        kind=protocol,
        part=on,
        masked=run.manifest.mask_seen if mask_seen is None else mask_seen,
        split=data.split,
        negatives=negatives if protocol == "sampled" else None,
        seed=NEGATIVES_SEED if protocol == "sampled" else None,
        fingerprint=data.fingerprint,
    )
    thresholds = choose_thresholds(data, *tail_below)
    ranked = _rank(run, data, held_out, details, progress, processes, both=both)
    made = []
    for each in ranked:
        table = build_rank_table(
            data,
            each.details,
            users=held_out.users,
            targets=held_out.targets,
            ranks=each.ranks.ranks,
            history_lengths=held_out.histories.lengths,
            repeats=held_out.repeats,
            tied=held_out.tied,
            thresholds=thresholds,
        )
        evaluation = _build_evaluation(
            run, data, each, table, given=tail_below != (None, None), chosen=mask_seen is not None
        )
        made.append((evaluation, table))
    evaluations = _beside([evaluation for evaluation, _ in made])
    if processes.rank == 0:
        written = [
            _write(run, *each)
            for each in zip(evaluations, (table for _, table in made), strict=True)
        ]
        return written[0]
    return evaluations[0]


def _beside(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Puts the results of each of two evaluations of the same scores beside the other."""
    if len(evaluations) == 1:
        return evaluations
    summaries = [
        OtherProtocol(
            masked=each.details.masked,
            metrics=each.metrics,
            groups={name: GroupResult.build(group) for name, group in each.groups.items()},
        )
        for each in evaluations
    ]
    return [
        each.model_copy(update={"other": other})
        for each, other in zip(evaluations, reversed(summaries), strict=True)
    ]


def _write(run: Run, evaluation: Evaluation, table: RankTable) -> Evaluation:
    """Writes an evaluation and its ranks; returns it with the hashes of weights and ranks."""
    metrics_file, ranks_file = evaluation_files(run.path, table.protocol)
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


def trained_scorer(run: Run) -> Scorer:
    """Returns the scorer of the trained items; the protocol excludes items that were added later."""
    if not run.manifest.added_items:
        return run.scorer
    first = {name: table[: run.trained_items] for name, table in run.item_tables.items()}
    return cast(ExtendsCatalogue, run.system).scorer_over(first)


@dataclass(frozen=True)
class _Ranked:
    """Ranks of all targets under one protocol, and of the cold ones beside their baselines."""

    details: RankingProtocol
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
    *,
    both: bool = False,
) -> tuple[Ranks, ColdScorers | None]:
    """Ranks targets under a protocol; also returns the scorers of cold items, if there are any.

    With `both`, also ranks by the other decision about seen items where the scores allow it (`Ranks.other`).
    """
    cold = cold_scorers(run, data, progress) if data.num_cold_items else None
    ranks = rank_targets(
        cold.everything if cold else trained_scorer(run),
        held_out,
        popularity=data.popularity[1:],
        max_len=run.system.max_len,
        mask_seen=details.masked,
        both=both,
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
    *,
    both: bool,
) -> list[_Ranked]:
    """Ranks under the protocol and, where that comes with it, under the other decision about seen items."""
    started = time.monotonic()
    ranks, cold = rank_held_out(run, data, held_out, details, progress, processes, both=both)
    seconds = time.monotonic() - started
    ranked = [(details, ranks)]
    if ranks.other is not None:
        ranked.append((details.model_copy(update={"masked": not details.masked}), ranks.other))
    results = []
    for each, its_ranks in ranked:
        cold_items = None
        if cold is not None and details.kind == "full":
            cold_items = rank_cold(
                run, data, held_out, cold, its_ranks.ranks, masked=each.masked, progress=progress
            )
        results.append(_Ranked(each, its_ranks, cold_items, seconds))
    return results


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
    run: Run, data: Dataset, ranked: _Ranked, table: RankTable, *, given: bool, chosen: bool
) -> Evaluation:
    ranks, details = ranked.ranks, ranked.details
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
        decision=_decision(run, data, details.masked, chosen=chosen),
        cold=ranked.cold,
        seconds=round(ranked.seconds, 3),
    )


def _decision(run: Run, data: Dataset, masked: bool, *, chosen: bool) -> str:
    """Describes how it was decided whether seen items are masked."""
    if masked != run.manifest.mask_seen:
        return "the other decision than that of the run"
    if chosen:
        return "as asked for, and as the run was trained"
    if run.manifest.mask_seen != data.masks_seen:
        return "as the run was trained"
    choice = str(data.manifest.options.get("mask_seen", "auto"))
    return mask_reason(choice, masked, data.repeat_share)
