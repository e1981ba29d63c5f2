"""The report's table of systems over their seeds."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.seeds import OverSeeds
from seqloom.evaluation.sentences import format_p
from seqloom.reports.markup import Markup, number, table

_CAPTION = (
    "Means over seeds, ± standard deviation where there are several. Interval: seeds and users drawn with "
    "replacement. p users: sign flips of each user's mean over seeds, Holm-corrected over this table. "
    "p seeds: exact permutation of the runs; in brackets the least that so many runs can show."
)


def seeds_table(results: Sequence[OverSeeds]) -> Markup:
    """One row for each pair of systems and metric."""
    head = ["Systems (seeds)", "Metric", "Reference", "Run", "Difference", "Interval"]
    head += ["d_z", "p users", "p seeds"]
    rows = [
        [
            f"{r.run} ({len(r.run_seeds)}) against {r.reference} ({len(r.reference_seeds)})",
            metric_label(r.metric),
            _mean(r.reference_mean, r.reference_std),
            _mean(r.run_mean, r.run_std),
            _signed(r.difference),
            f"[{_signed(r.low)}, {_signed(r.high)}]",
            number(r.effect_size, 3),
            _p(r.p_users_holm),
            "–" if r.p_seeds is None else f"{_p(r.p_seeds)} ({_p(r.least_p_seeds or 0.0)})",
        ]
        for r in results
    ]
    return table(head, rows, _CAPTION)


def _mean(mean: float, spread: float | None) -> str:
    return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _p(p: float) -> str:
    return format_p(p).removeprefix("p ").removeprefix("= ")
