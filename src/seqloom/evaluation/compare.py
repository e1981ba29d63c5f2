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
from seqloom.core.random import derive_seed
from seqloom.core.tabular import Tabular
from seqloom.evaluation.both_protocols import ProtocolRow, protocol_rows
from seqloom.evaluation.cost_benefit import cost_benefit_sentence
from seqloom.evaluation.evaluated_run import EvaluatedRun, check_comparable
from seqloom.evaluation.groups import GROUPS, KNOWN_USER, NEW_TARGET, REPEAT_GROUPS, REPEAT_TARGET
from seqloom.evaluation.metrics import per_user
from seqloom.evaluation.protocol import StoredProtocol
from seqloom.evaluation.reference import Reference, choose_reference
from seqloom.evaluation.seeds import OverSeeds, Series, compare_series
from seqloom.evaluation.sentences import comparison_sentence
from seqloom.evaluation.significance import (
    FLIPS,
    RESAMPLES,
    PairedTest,
    benjamini_hochberg,
    holm,
    paired_test,
)

COMPARED_METRICS = ("ndcg@10", "hr@10")
ALL_USERS = "all"


class Difference(Config):
    """Run minus reference, for one metric and one group of users. Undefined values are None."""

    metric: str
    group: str
    """`all`, or one of the groups of the rank table."""
    users: int
    reference: float | None = None
    """The reference's mean; None where the group has fewer than two users."""
    run: float | None = None
    difference: float | None = None
    relative: float | None = None
    """difference / reference (0.1 is 10 %); None where the reference is 0."""
    low: float | None = None
    """Lower bound of the difference's confidence interval (not corrected)."""
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    """Corrected over all differences of the comparison; the sentence uses this value."""
    p_bh: float | None = None
    effect_size: float | None = None
    """Cohen's d_z."""


class Pair(Config):
    """The comparison of two runs."""

    reference: str
    run: str
    differences: list[Difference]
    sentence: str
    """The result in one sentence."""
    pays: str | None = None
    """Whether the language model is worth its cost; None unless one run uses one and the other is the best
    run without."""


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

    def facts(self) -> dict[str, Any]:
        """Returns the number of users and the result of each pair in a sentence."""
        pairs = {f"{pair.run} against {pair.reference}": pair.sentence for pair in self.pairs}
        return {"users": self.users, **pairs}

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

    The reference is the best run without a language model (`choose_reference`). With `all`, the earlier run
    of a pair is its reference, and `Pair.pays` is set for the pairs that contain the best run without a
    language model. Each metric is tested over all users and over each group. The default groups are
    `groups.GROUPS`; known users where there are new ones; and, where some targets are repeated, the new
    targets (without masking also the repeated ones).

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
    run_pairs = _pair_runs(runs, first, pairs)
    masks = {ALL_USERS: torch.ones(len(runs[0].table), dtype=torch.bool)}
    masks |= {group: runs[0].table.members[group] for group in groups}
    options: dict[str, Any] = {"resamples": resamples, "flips": flips, "confidence": confidence}
    tested = _test_pairs(run_pairs, metrics, masks, seed, options)
    flat = [each for row in tested for each in row if each.p is not None]
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
        comparisons=len(flat),
        pairs=results,
        protocols=protocol_rows(
            [run.record for run in runs],
            masked=runs[0].table.protocol.masked,
            metrics=metrics,
            groups=REPEAT_GROUPS,
        ),
        reference=reference.name,
        reference_chosen=reference.reason,
        over_seeds=compare_series(_series_pairs(runs, first, pairs), metrics, seed=seed, **options),
    )


def _pair_runs(
    runs: Sequence[EvaluatedRun], first: EvaluatedRun, pairs: str
) -> list[tuple[EvaluatedRun, EvaluatedRun]]:
    if pairs == "reference":
        return [(first, run) for run in runs if run is not first]
    return list(itertools.combinations(runs, 2))


def _describe_pair(
    before: EvaluatedRun,
    run: EvaluatedRun,
    differences: list[Difference],
    level: float,
    reference: Reference,
    runs: Sequence[EvaluatedRun],
) -> Pair:
    overall = next(d for d in differences if d.group == ALL_USERS)
    return Pair(
        reference=before.name,
        run=run.name,
        differences=differences,
        sentence=comparison_sentence(run.name, before.name, differences, level),
        pays=_cost_benefit(run, before, overall, level, reference, runs),
    )


def _cost_benefit(
    run: EvaluatedRun,
    before: EvaluatedRun,
    overall: Difference,
    level: float,
    reference: Reference,
    runs: Sequence[EvaluatedRun],
) -> str | None:
    """Returns the cost-benefit sentence of a pair that contains the best run without a language model."""
    if not reference.best_without_language_model or reference.name not in (run.name, before.name):
        return None
    model, value = (
        (run, overall.run) if run.record.uses_language_model else (before, overall.reference)
    )
    if value is None or not model.record.uses_language_model:
        return None
    plain = [other for other in runs if not other.record.uses_language_model]
    means = {
        other.name: float(per_user(overall.metric, other.table.ranks).mean()) for other in plain
    }
    return cost_benefit_sentence(
        run.record,
        before.record,
        overall,
        level,
        ahead=[name for name, mean in means.items() if mean > value],
        only_yardsticks=all(other.record.yardstick for other in plain),
    )


def _series_pairs(
    runs: Sequence[EvaluatedRun], first: EvaluatedRun, pairs: str
) -> list[tuple[Series, Series]]:
    """Pairs the systems to compare over their seeds; none unless a system has several seeds."""
    grouped: dict[str, list[EvaluatedRun]] = {}
    ordered = runs if pairs == "all" else [first, *(run for run in runs if run is not first)]
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


def _test_pairs(
    run_pairs: Sequence[tuple[EvaluatedRun, EvaluatedRun]],
    metrics: Sequence[str],
    masks: Mapping[str, torch.Tensor],
    seed: int,
    options: Mapping[str, Any],
) -> list[list[Difference]]:
    """Tests every pair on each metric and group; all tests are corrected as one family."""
    cells = list(itertools.product(metrics, masks))
    tests = [
        [
            _test_difference(
                before, run, metric, masks[group], derive_seed(seed, metric, group), options
            )
            for metric, group in cells
        ]
        for before, run in run_pairs
    ]
    flat = [test.p_value for row in tests for test in row if test is not None]
    corrected = iter(zip(holm(flat), benjamini_hochberg(flat), strict=True))
    return [
        [
            Difference(metric=metric, group=group, users=int(masks[group].sum()))
            if test is None
            else _difference(metric, group, test, *next(corrected))
            for (metric, group), test in zip(cells, row, strict=True)
        ]
        for row in tests
    ]


def _test_difference(
    reference: EvaluatedRun,
    run: EvaluatedRun,
    metric: str,
    rows: torch.Tensor,
    seed: int,
    options: Mapping[str, Any],
) -> PairedTest | None:
    if int(rows.sum()) < 2:
        return None
    before, after = (per_user(metric, each.table.ranks[rows]) for each in (reference, run))
    return paired_test(before, after, seed=seed, **options)


def _difference(
    metric: str, group: str, test: PairedTest, p_holm: float, p_bh: float
) -> Difference:
    return Difference(
        metric=metric,
        group=group,
        users=test.users,
        reference=test.first,
        run=test.second,
        difference=test.difference,
        relative=test.difference / test.first if test.first else None,
        low=test.low,
        high=test.high,
        p=test.p_value,
        p_holm=p_holm,
        p_bh=p_bh,
        effect_size=test.effect_size,
    )


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
