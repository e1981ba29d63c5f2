"""The ranking of a real model against one in float64, a user at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.naive import naive_ranks

from seqloom.pipelines.train.fit_run import start_system
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.registry import system_class
from support.datasets import ranked, tiny_dataset


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "bert4rec"])
def test_ranks_equal_a_naive_float64_ranking(name: str, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    rows = [
        (torch.randperm(300, generator=draw)[: 4 + user % 9] + 1).tolist() for user in range(60)
    ]
    dataset = tiny_dataset(tmp_path / "data", rows, [f"item {n}" for n in range(300)])
    config = system_class(name).config_class.build({"encoder": {"hidden_size": 16}})
    system = start_system(name, config, Sizes(num_items=300), TrainingData(dataset)).eval()
    held_out = dataset.held_out("test")
    ranks = ranked(system.scorer(), held_out, max_len=system.max_len).ranks
    assert ranks.tolist() == naive_ranks(system, held_out, list(range(len(ranks))))
    assert len(set(ranks.tolist())) > 20
