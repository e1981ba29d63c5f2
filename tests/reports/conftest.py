"""The data set, the evaluated runs and the report that the tests of reports share."""

from __future__ import annotations

import pytest
import torch

from seqloom.data.store import Dataset
from seqloom.evaluation.compare import compare_runs
from seqloom.evaluation.groups import default_thresholds
from seqloom.evaluation.metrics import list_metrics
from seqloom.reports.data import ReportData, Setup, system_result
from seqloom.reports.item_map import choose_items, describe_items, map_items
from seqloom.reports.sample_users import sample_users
from support.evaluated_runs import RunFactory, dataset, make_run, make_table

__all__ = ["dataset", "make_run", "make_table", "report_data"]

SETUP = Setup(
    settings={"encoder.dropout": "0.1", "text": "<none>"},
    encoder="minilm & more",
    device="cpu, 1 thread",
    epochs="2, kept 1",
    text_kind="ids",
)


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
    chosen = choose_items(40, 12)
    return ReportData(
        created="today",
        dataset="<data>",
        statistics={"Users": 60, "Share": 0.25, "Note": "<i>"},
        protocol=runs[0].table.protocol,
        systems=[system_result(run, log=log, setup=SETUP) for run in runs],
        comparison=compare_runs(runs, resamples=2000, flips=2000),
        thresholds=default_thresholds(dataset),
        mapped_items=describe_items(chosen, dataset, "title"),
        item_maps=[map_items("SASRec", torch.randn(40, 8, generator=random), chosen)],
        samples=sample_users(dataset, held_out, lists, ranks, count=3),
        versions={"torch": "2"},
    )
