"""A tiny data set and evaluated runs over it, as fixtures."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqloom.data.store import Dataset
from seqloom.evaluation.evaluated_run import EvaluatedRun
from seqloom.evaluation.groups import group_metrics
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.protocol import RankingProtocol
from seqloom.evaluation.ranks_file import RankTable, build_rank_table
from seqloom.evaluation.record import GroupResult, RunRecord
from support.datasets import tiny_dataset

TableFactory = Callable[..., RankTable]
"""Takes ranks and fields of the protocol."""

RunFactory = Callable[..., EvaluatedRun]
"""Takes a name, ranks and fields of the protocol."""


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 users, 40 items, popular items first; all lengths of history from 3 to 12."""
    random = torch.Generator().manual_seed(1)
    weights = 1.0 / torch.arange(1, 41)
    rows = [
        (torch.multinomial(weights, 3 + u % 10, generator=random) + 1).tolist() for u in range(60)
    ]
    titles = [f"item {n}" for n in range(1, 40)] + ["<script>alert('x')</script> & Söhne"]
    path: Path = tmp_path_factory.mktemp("evaluation") / "data"
    return tiny_dataset(path, rows, titles)


@pytest.fixture(scope="session")
def make_table(dataset: Dataset) -> TableFactory:
    """Builds rank tables of the test part from ranks."""

    def make(ranks: Tensor, **protocol: object) -> RankTable:
        held_out = dataset.held_out("test")
        return build_rank_table(
            dataset,
            RankingProtocol.build({"fingerprint": dataset.fingerprint, **protocol}),
            users=held_out.users,
            targets=held_out.targets,
            ranks=ranks,
            history_lengths=held_out.histories.lengths,
            repeats=held_out.repeats,
        )

    return make


@pytest.fixture(scope="session")
def make_run(make_table: TableFactory) -> RunFactory:
    """Builds evaluated runs from ranks."""

    def make(name: str, ranks: Tensor, **protocol: object) -> EvaluatedRun:
        table = make_table(ranks, **protocol)
        groups = group_metrics(ranks, table.members)
        record = RunRecord(
            name=name,
            system="sasrec",
            metrics=rank_metrics(ranks),
            groups={group: GroupResult.build(values) for group, values in groups.items()},
            train_seconds=12.5,
            parameters=1000,
            device="cpu",
        )
        return EvaluatedRun(record, table)

    return make


def with_record(run: EvaluatedRun, **changes: object) -> EvaluatedRun:
    """Returns the run with some fields of its record changed."""
    return dataclasses.replace(run, record=run.record.model_copy(update=changes))
