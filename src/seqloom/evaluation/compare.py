"""Compares runs over the same users: differences, confidence intervals, corrected p-values."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.core.tabular import Tabular
from seqloom.evaluation.both_protocols import ProtocolRow, protocol_rows
from seqloom.evaluation.cost_benefit import Outcome, cost_benefit_sentence, judge
from seqloom.evaluation.differences import Difference, paired_differences
from seqloom.evaluation.evaluated_run import EvaluatedRun, check_comparable
from seqloom.evaluation.groups import (
    COLD_GROUPS,
    GROUPS,
    KNOWN_USER,
    NEW_TARGET,
    REPEAT_GROUPS,
    REPEAT_TARGET,
)
from seqloom.evaluation.intervals import Score, score_runs
from seqloom.evaluation.metrics import per_user
from seqloom.evaluation.protocol import StoredProtocol
from seqloom.evaluation.ranks_file import RankTable
from seqloom.evaluation.reference import Reference, choose_reference
from seqloom.evaluation.seeds import OverSeeds, Series, compare_series
from seqloom.evaluation.sentences import Result, comparison_sentence
from seqloom.evaluation.significance import FLIPS, RESAMPLES
from seqloom.evaluation.verdict import Verdict, build_verdict
from seqloom.evaluation.wording import ALL_USERS

COMPARED_METRICS = ("ndcg@10", "hr@10")


class Pair(Config):
    """The comparison of two runs."""

    reference: str
    run: str
    differences: list[Difference]
    sentence: str
    """The result in one sentence."""
    outcome: Outcome | None = None
    """The verdict on the language model; None as `pays`."""
    pays: str | None = None
    """Whether the language model is worth its cost; None unless one run uses one and the other is the best
    run without."""


class ComparedRun(Config):
    """What a run is and what it costs."""

    name: str
    system: str
    seed: int
    uses_language_model: bool
    train_seconds: float | None = None
    """Training, with the members of an ensemble and the embedding of texts."""
    latency_ms: float | None = None
    """Median time of a single request."""


class Comparison(Tabular, Config):
    """The result of `compare_runs`; `model_dump(mode="json")` is JSON."""

    protocol: StoredProtocol
    users: int
    confidence: float
    resamples: int
    """Resamples of the bootstrap."""
    flips: int
    """Flips of the sign-flip test."""
    comparisons: int
    """Number of tests in the family that the corrections cover."""
    runs: list[ComparedRun]
    verdict: Verdict
    """The result in words: the language model against the best run without one."""
    scores: list[Score]
    """Each run's own mean and interval, by metric and group."""
    pairs: list[Pair]
    protocols: list[ProtocolRow] = Field(default_factory=list)
    """Each run with seen items masked and kept, where it was ranked both ways."""
    reference: str = ""
    """The run against which the others are tested (`reference.choose_reference`)."""
    reference_chosen: str = ""
    """How the reference was chosen, in one sentence."""
    over_seeds: list[OverSeeds] = Field(default_factory=list)
    """Comparisons of systems over their seeds; empty unless some system was trained with several."""

    def headline(self) -> str:
        """Returns what was compared, on one line."""
        runs = list(dict.fromkeys(pair.run for pair in self.pairs if pair.run != self.reference))
        return f"Comparison of {', '.join(runs)} with {self.reference}"

    @property
    def metric(self) -> str:
        """The first metric, which decides the verdict."""
        return self.pairs[0].differences[0].metric

    @property
    def level(self) -> float:
        """Corrected p-values below this count as shown."""
        return 1.0 - self.confidence

    def difference(self, run: str, metric: str, group: str = ALL_USERS) -> Difference | None:
        """Returns the difference of a run from the reference; None where that was not tested."""
        return next(
            (
                each
                for pair in self.pairs
                if (pair.run, pair.reference) == (run, self.reference)
                for each in pair.differences
                if (each.metric, each.group) == (metric, group)
            ),
            None,
        )

    def score(self, run: str, metric: str, group: str = ALL_USERS) -> Score | None:
        """Returns the mean and interval of a run; None where the group has not been measured."""
        key = (run, metric, group)
        return next((s for s in self.scores if (s.run, s.metric, s.group) == key), None)

    def facts(self) -> dict[str, Any]:
        """Returns the number of users and the result of each pair in a sentence."""
        pairs = {f"{pair.run} against {pair.reference}": pair.sentence for pair in self.pairs}
        return {"verdict": self.verdict.headline, "users": self.users, **pairs}

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns one row a pair, metric and group; the columns are those of `Difference`."""
        return [
            {
                "run": pair.run,
                "reference": pair.reference,
                "metric": each.metric,
                "group": each.group,
                "users": each.users,
                "value": each.run,
                "reference_value": each.reference,
                **each.model_dump(exclude={"metric", "group", "users", "reference", "run"}),
            }
            for pair in self.pairs
            for each in pair.differences
        ]


def compare_runs(
    runs: Sequence[EvaluatedRun],
    *,
    metrics: Sequence[str] = COMPARED_METRICS,
    groups: Sequence[str] | None = None,
    pairs: Literal["reference", "all"] = "reference",
    seed: int = 0,
    resamples: int = RESAMPLES,
    flips: int = FLIPS,
    confidence: float = 0.95,
) -> Comparison:
    """Tests each run against the reference (`reference`), or every two runs (`all`), on each metric.

    The reference is the best run without a language model (`choose_reference`). With `all`, it comes first
    and the other runs follow in their order; the earlier run of a pair is its reference. `Pair.pays` is set
    for the pairs of the best run without a language model and a run with one. Each metric is tested over all
    users and over each group. The default groups are `groups.GROUPS`; known users where there are new ones;
    and, where some targets are repeated, the new targets (without masking also the repeated ones).

    Groups use the first run's thresholds. A group of fewer than two users is listed with its number of
    users and without a test.

    Raises:
        ConfigError: fewer than two runs, equal names, no metric, or an unknown metric or group.
        DataError: the runs differ in data set, protocol, users or targets.
    """
    groups = _default_groups(runs) if groups is None else groups
    _check_options(runs, metrics, groups, pairs)
    for run in runs[1:]:
        check_comparable(runs[0], run)
    reference = choose_reference(
        [run.record for run in runs], metrics[0], runs[0].table.protocol.part
    )
    first = next(run for run in runs if run.name == reference.name)
    ordered = [first, *(run for run in runs if run is not first)]
    run_pairs = _pair_runs(ordered, pairs)
    masks = {ALL_USERS: torch.ones(len(runs[0].table), dtype=torch.bool)}
    options: dict[str, Any] = {"resamples": resamples, "flips": flips, "confidence": confidence}
    tested = paired_differences(
        run_pairs,
        metrics,
        masks | {group: runs[0].table.members[group] for group in groups},
        seed,
        options,
    )
    results = [
        _describe_pair(before, run, differences, 1 - confidence, reference, runs)
        for (before, run), differences in zip(run_pairs, tested, strict=True)
    ]
    return Comparison(
        protocol=runs[0].table.protocol,
        users=len(runs[0].table),
        confidence=confidence,
        resamples=resamples,
        flips=flips,
        comparisons=sum(each.p is not None for row in tested for each in row),
        runs=[_compared(run) for run in runs],
        verdict=_verdict(runs, reference, results, 1 - confidence),
        scores=score_runs(
            runs,
            metrics,
            masks | _scored_groups(runs[0].table),
            seed=seed,
            resamples=resamples,
            confidence=confidence,
        ),
        pairs=results,
        protocols=protocol_rows(
            [run.record for run in runs],
            masked=runs[0].table.protocol.masked,
            metrics=metrics,
            groups=REPEAT_GROUPS,
        ),
        reference=reference.name,
        reference_chosen=reference.reason,
        over_seeds=compare_series(_series_pairs(ordered, pairs), metrics, seed=seed, **options),
    )


def _scored_groups(table: RankTable) -> dict[str, torch.Tensor]:
    """Returns the groups whose means are listed: those of the table, and targets without training events."""
    groups = table.members
    new = table.target_counts == 0
    return groups if not new.any() or COLD_GROUPS[0] in groups else groups | {COLD_GROUPS[0]: new}


def _compared(run: EvaluatedRun) -> ComparedRun:
    record = run.record
    return ComparedRun(
        name=record.name,
        system=record.system,
        seed=record.seed,
        uses_language_model=record.uses_language_model,
        train_seconds=record.total_train_seconds,
        latency_ms=record.latency_ms,
    )


def _verdict(
    runs: Sequence[EvaluatedRun], reference: Reference, pairs: Sequence[Pair], level: float
) -> Verdict:
    against = [pair for pair in pairs if pair.reference == reference.name]
    overall: dict[str, Result] = {
        pair.run: next(d for d in pair.differences if d.group == ALL_USERS) for pair in against
    }
    outcomes = {pair.run: pair.outcome for pair in against if pair.outcome is not None}
    by_group: dict[str, list[Result]] = {
        pair.run: [d for d in pair.differences if d.metric == overall[pair.run].metric]
        for pair in against
    }
    records = [run.record for run in runs]
    return build_verdict(records, reference, overall, outcomes, level, by_group)


def _pair_runs(
    ordered: Sequence[EvaluatedRun], pairs: str
) -> list[tuple[EvaluatedRun, EvaluatedRun]]:
    if pairs == "reference":
        return [(ordered[0], run) for run in ordered[1:]]
    return list(itertools.combinations(ordered, 2))


def _describe_pair(
    before: EvaluatedRun,
    run: EvaluatedRun,
    differences: list[Difference],
    level: float,
    reference: Reference,
    runs: Sequence[EvaluatedRun],
) -> Pair:
    overall = next(d for d in differences if d.group == ALL_USERS)
    pair = Pair(
        reference=before.name,
        run=run.name,
        differences=differences,
        sentence=comparison_sentence(run.name, before.name, differences, level),
    )
    if (
        not reference.best_without_language_model
        or before.name != reference.name
        or not run.record.uses_language_model
        or overall.run is None
    ):
        return pair
    plain = [other for other in runs if not other.record.uses_language_model]
    ahead = [
        other.name
        for other in plain
        if other is not before
        and float(per_user(overall.metric, other.table.ranks).mean()) > overall.run
    ]
    outcome = judge(
        overall,
        level,
        ahead=ahead,
        only_yardsticks=all(other.record.yardstick for other in plain),
    )
    pays = outcome and cost_benefit_sentence(run.record, before.record, overall, outcome, ahead)
    return pair.model_copy(update={"outcome": outcome, "pays": pays})


def _series_pairs(ordered: Sequence[EvaluatedRun], pairs: str) -> list[tuple[Series, Series]]:
    """Pairs the systems to compare over their seeds; none unless a system has several seeds."""
    grouped: dict[str, list[EvaluatedRun]] = {}
    for run in ordered:
        grouped.setdefault(run.record.series or run.name, []).append(run)
    if all(len(group) == 1 for group in grouped.values()):
        return []
    systems = Counter(group[0].record.system for group in grouped.values())
    series = [
        Series(
            name=_series_name(group[0], systems),
            seeds=tuple(run.record.seed for run in group),
            ranks=tuple(run.table.ranks for run in group),
        )
        for group in grouped.values()
    ]
    if pairs == "reference":
        return [(series[0], other) for other in series[1:]]
    return list(itertools.combinations(series, 2))


def _series_name(first: EvaluatedRun, systems: Mapping[str, int]) -> str:
    """Names a series by its system, or by its first run if the system has several configurations."""
    system = first.record.system
    return system if systems[system] == 1 else first.name


def _default_groups(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Returns `GROUPS` and the further groups in which systems can differ.

    All systems recommend the same popular items to new users, and with seen items masked every repeated
    target is a miss: known users and new targets remain.
    """
    if not runs:
        return list(GROUPS)
    masked = runs[0].table.protocol.masked
    further = (
        [KNOWN_USER, NEW_TARGET]
        if masked
        else [KNOWN_USER, NEW_TARGET, REPEAT_GROUPS, REPEAT_TARGET]
    )
    return [*GROUPS, *(group for group in further if group in runs[0].table.members)]


def _check_options(
    runs: Sequence[EvaluatedRun], metrics: Sequence[str], groups: Sequence[str], pairs: str
) -> None:
    names = [run.name for run in runs]
    if len(runs) < 2:
        raise ConfigError(f"a comparison needs at least two runs; got {len(runs)}")
    if len(set(names)) < len(names):
        raise ConfigError(f"the runs' names must differ; got {', '.join(names)}")
    if not metrics:
        raise ConfigError("no metric given; use for example ndcg@10")
    known = runs[0].table.members
    unknown = [group for group in groups if group not in known]
    if unknown:
        raise ConfigError(f"unknown group {unknown[0]!r}; use some of {', '.join(known)}")
    if pairs not in ("reference", "all"):
        raise ConfigError(f"pairs {pairs!r} is unknown; use 'reference' or 'all'")
