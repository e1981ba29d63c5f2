"""`compare`: tests runs against each other on the same users and writes the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqloom.core.errors import ConfigError
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.data.store import Part
from seqloom.evaluation.compare import Comparison, compare_runs
from seqloom.pipelines.compare.measured import decide_mask, measure
from seqloom.pipelines.compare.named_runs import DEFAULT_CUTOFFS, Runs, metrics_at, open_runs
from seqloom.pipelines.compare.report import audit_all, report_data
from seqloom.reports.comparison import write_report

ITEMS_ON_MAP = 1000


@public_function()
def compare(
    runs: Runs,
    *,
    report: str | Path | None = None,
    on: Part = "test",
    at: Sequence[int] | int = DEFAULT_CUTOFFS,
    mask_seen: bool | None = None,
    all_pairs: bool = False,
    item_map: int = ITEMS_ON_MAP,
    audit_runs: bool = False,
    price_per_hour: float | None = None,
    progress: Progress = AUTO,
) -> Comparison:
    """Compares the full ranking of runs, user by user, against the best run without a language model.

    That run is chosen on validation (`evaluation.reference`); if all runs use a language model, the first is
    the reference. Evaluates runs first that were not evaluated under this version of the protocol. Seen
    items are masked as the runs were trained, or by `mask_seen`.

    Args:
        runs: runs or their folders; a mapping gives them names, as in `{"ours": "runs/llmesr-3"}`.
        report: HTML file for a page with the verdict, charts, sample recommendations and audits.
        at: cut-offs of NDCG and HR; the first decides the verdict.
        all_pairs: test every pair of runs, not only against the reference.
        item_map: number of items on the report's map, for every run that has item vectors (0: no map).
        audit_runs: audit the runs first that have no audit or changed since theirs.
        price_per_hour: price of an hour of the machine that trains, for the report.

    Raises:
        ConfigError: fewer than two runs, two of the same name, a cut-off that is no whole number from 1 to
            the size of the catalogue, or an option of the report without a report.
        DataError: the runs are of different data sets, users or protocols.
    """
    opened = open_runs(runs)
    metrics = metrics_at(at, min(each.run.trained_items for each in opened))
    if report is None and (audit_runs or price_per_hour is not None):
        option = "audit_runs" if audit_runs else "price_per_hour"
        raise ConfigError(f"option {option} is about the report; name its file with option report")
    if price_per_hour is not None and price_per_hour < 0:
        raise ConfigError(f"option price_per_hour: {price_per_hour} is below 0")
    masked = decide_mask(opened, progress) if mask_seen is None else mask_seen
    evaluated, evaluation = measure(opened, on, masked, metrics, progress)
    with progress.task("compare", None, "tests"):
        result = compare_runs(evaluated, metrics=metrics, pairs="all" if all_pairs else "reference")
    if report is not None:
        if audit_runs:
            audit_all(opened, progress)
        data = report_data(
            opened,
            evaluated,
            evaluation,
            result,
            item_map=item_map,
            price_per_hour=price_per_hour,
            progress=progress,
        )
        progress.note(f"report: {write_report(report, data)}")
    return result
