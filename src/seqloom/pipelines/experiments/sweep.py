"""`sweep`: trains the runs of a plan and writes one table of means and spreads, with figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError, TrainingError
from seqloom.core.files import atomic_file, sole_writer, write_json
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import merge_options, public_function
from seqloom.core.progress import Progress
from seqloom.core.tabular import Tabular
from seqloom.data.store import Dataset
from seqloom.evaluation.metrics import RANK_METRICS
from seqloom.evaluation.protocol import RankingProtocol
from seqloom.pipelines.evaluate.evaluate import (
    NEGATIVES,
    NEGATIVES_SEED,
    choose_thresholds,
    evaluate,
)
from seqloom.pipelines.evaluate.stored import Evaluation, Protocol, read_evaluation
from seqloom.pipelines.experiments.sweep_grid import SweepCell, SweepKeywords, SweepPlan, cells
from seqloom.pipelines.experiments.sweep_references import resolve_references
from seqloom.pipelines.prepare.prepare import statistics_table
from seqloom.pipelines.train.train import train
from seqloom.reports.sweep_report import SweepReport, write_sweep_report
from seqloom.reports.sweep_table import Measurement, SummaryRow, summarise
from seqloom.runs.manifest import read_manifest


class SweepSummary(Tabular, Config):
    """The result of `sweep`."""

    out: str
    report: str
    runs: int
    """Trained and evaluated runs."""
    failed: list[dict[str, str]]
    """Runs whose training failed: `run` and `error`."""
    table: list[SummaryRow]
    """Mean, spread and best over seeds; one row for each variant, grid point, group and metric."""

    def headline(self) -> str:
        """Returns where the sweep is, on one line."""
        return f"Sweep at {self.out}"

    def facts(self) -> dict[str, Any]:
        """Returns the numbers of runs."""
        return {"runs": self.runs, "failed": len(self.failed), "report": self.report}

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns the table, with a column for each key of the grid."""
        return [row.model_dump(exclude={"point"}) | row.point for row in self.table]


@public_function(SweepPlan, parameter="plan")
def sweep(
    dataset: Dataset | str | Path,
    plan: SweepPlan | Mapping[str, Any] | None = None,
    *,
    out: str | Path,
    device: str = "auto",
    progress: Progress = AUTO,
    **keywords: Unpack[SweepKeywords],
) -> SweepSummary:
    """Trains and evaluates every run of `plan` under `out`, then writes table, figures and report.

    The fields of `SweepPlan` are keywords too.

    Keeps the results of earlier calls: reads complete runs and resumes unfinished ones. Reports a run
    whose loss is not finite, leaves it out of the table, and continues with the others.

    Raises:
        ConfigError: a run's configuration, a run that it refers to or a metric is not allowed; nothing
            is trained.
        ArtefactError: a run with this name and another configuration exists.
        LockedError: another process is writing `out`.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    plan = merge_options(SweepPlan, plan, keywords)
    out = Path(out)
    planned = resolve_references(cells(plan), out / "runs")
    unknown = sorted(set(plan.metrics) - set(RANK_METRICS))
    if unknown:
        allowed = ", ".join(RANK_METRICS)
        raise ConfigError(
            f"metrics: {', '.join(unknown)} cannot be in the table; allowed: {allowed}"
        )
    with sole_writer(out, progress):
        return _sweep(dataset, plan, planned, out, device, progress)


def _sweep(
    dataset: Dataset,
    plan: SweepPlan,
    planned: Sequence[SweepCell],
    out: Path,
    device: str,
    progress: Progress,
) -> SweepSummary:
    out.mkdir(parents=True, exist_ok=True)
    with atomic_file(out / "plan.yaml") as work:
        work.write_text(plan.to_yaml(), encoding="utf-8")
    measured: list[Measurement] = []
    failed: list[dict[str, str]] = []
    with progress.task("sweep", len(planned), "runs") as task:
        for cell in planned:
            try:
                measured += _run(cell, dataset, plan, out, device, progress)
            except TrainingError as error:
                progress.warn(f"{cell.name}: {error}")
                failed.append({"run": cell.name, "error": str(error)})
            task.advance()
    table = summarise(measured)
    report = SweepReport(
        dataset=dataset.path.resolve().name,
        statistics=dict(statistics_table(dataset)),
        metrics=plan.metrics,
        table=table,
        measurements=measured,
        failed=failed,
    )
    file = write_sweep_report(out / "report.html", report)
    summary = SweepSummary(
        out=str(out),
        report=str(file),
        runs=len({one.run for one in measured}),
        failed=failed,
        table=table,
    )
    write_json(out / "summary.json", summary.model_dump(mode="json"))
    return summary


def _run(
    cell: SweepCell, dataset: Dataset, plan: SweepPlan, out: Path, device: str, progress: Progress
) -> list[Measurement]:
    folder = out / "runs" / cell.name
    progress.note(f"{cell.name}: {cell.system}")
    train(
        dataset,
        cell.system,
        out=folder,
        config=cell.config,
        resume=folder.exists(),
        device=device,
        progress=progress,
    )
    measurements: list[Measurement] = []
    for protocol in plan.protocols:
        evaluation = _evaluate(folder, dataset, plan, protocol, device, progress)
        groups = {
            "all": {"users": evaluation.users, "metrics": evaluation.metrics},
            **evaluation.groups,
        }
        for group, values in groups.items():
            measurements += [
                Measurement(
                    run=cell.name,
                    variant=cell.variant,
                    system=cell.system,
                    seed=cell.seed,
                    point=cell.point,
                    protocol=protocol,
                    group=group,
                    users=values["users"],
                    metric=metric,
                    value=values["metrics"][metric],
                )
                for metric in plan.metrics
                if values["metrics"] is not None
            ]
    return measurements


def _evaluate(
    folder: Path,
    dataset: Dataset,
    plan: SweepPlan,
    protocol: Protocol,
    device: str,
    progress: Progress,
) -> Evaluation:
    sampled = protocol == "sampled"
    manifest = read_manifest(folder)
    details = RankingProtocol(
        kind=protocol,
        part=plan.on,
        masked=manifest.mask_seen,
        split=manifest.dataset.split,
        negatives=NEGATIVES if sampled else None,
        seed=NEGATIVES_SEED if sampled else None,
        fingerprint=dataset.fingerprint,
    )
    thresholds = choose_thresholds(dataset, plan.tail_item_below, plan.tail_user_below)
    stored = read_evaluation(folder, details)
    if stored is not None and stored.thresholds == thresholds:
        return stored
    return evaluate(
        folder,
        protocol=protocol,
        on=plan.on,
        tail_item_below=thresholds.item,
        tail_user_below=thresholds.user,
        dataset=dataset,
        device=device,
        progress=progress,
    )
