"""The data set, the evaluated runs and the report that the tests of reports share."""

from __future__ import annotations

import pytest
import torch

from seqloom.data.store import Dataset
from seqloom.evaluation.compare import compare_runs
from seqloom.evaluation.groups import default_thresholds
from seqloom.evaluation.metrics import list_metrics
from seqloom.reports.data import ReportData, long_tail, system_result
from seqloom.reports.sample_users import sample_users
from support.evaluated_runs import RunFactory, dataset, make_run, make_table

__all__ = ["dataset", "make_run", "make_table", "report_data"]


@pytest.fixture(scope="module")
def report_data(dataset: Dataset, make_run: RunFactory) -> ReportData:
    """A report with every part, of two runs whose names have to be escaped."""
    held_out = dataset.held_out("test")
    random = torch.Generator().manual_seed(0)
    runs = [
        make_run(name, torch.randint(1, 30, (60,), generator=random))
        for name in ("SASRec", "LLM <ESR> $1$")
    ]
    runs[0].record.metrics.update(list_metrics(torch.full((60, 20), 40), dataset.popularity, [10]))
    log = [
        {"phase": "main", "epoch": 1, "train": {"loss": 2.0}, "valid": {"ndcg@10": 0.1}},
        {"phase": "main", "epoch": 2, "train": {"loss": 1.5}},
    ]
    lists = {run.name: torch.full((60, 20), 40) for run in runs}
    ranks = {run.name: run.table.ranks for run in runs}
    thresholds = default_thresholds(dataset)
    return ReportData(
        title="Title <script>alert('x')</script> & Söhne",
        created="today",
        dataset="<data>",
        statistics={"Users": 60, "Share": 0.25, "Note": "<i>"},
        protocol=runs[0].table.protocol,
        systems=[system_result(run, log=log) for run in runs],
        comparison=compare_runs(runs, resamples=2000, flips=2000),
        long_tail=long_tail(dataset, thresholds),
        samples=sample_users(dataset, held_out, lists, ranks, count=3),
        versions={"torch": "2"},
        notes=["mind <this>"],
    )
