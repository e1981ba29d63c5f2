"""A table whose rows are shared out among two processes by torchrec: does it give the same vectors, what
does a process hold, what does a look-up cost. Two gloo processes on loopback; needs torchrec and the
fbgemm-gpu-cpu of the installed torch. And the best ten of a sharded catalogue: each process gives its own
best ten, and the best ten of those are the best ten of all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.backends import free_port

_PROCESSES, _LOOKUPS, _TIMES = 2, 4096, 10


def measure(rows: int, width: int) -> dict[str, float]:
    """Unit costs of a table [rows, width].

    Raises:
        RuntimeError: a process ends in an error, or the sharded table gives other vectors.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "told.json")
        common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        command = [
            sys.executable,
            "-m",
            "benchmarks.sharded_table",
            str(rows),
            str(width),
            str(out),
        ]
        started = [
            subprocess.Popen(
                command, env={**common, "RANK": str(rank), "WORLD_SIZE": str(_PROCESSES)}
            )
            for rank in range(_PROCESSES)
        ]
        codes = [process.wait() for process in started]
        if any(codes):
            raise RuntimeError("a process of the sharded table failed")
        told: dict[str, float] = json.loads(out.read_text())
        return told


def _work(rows: int, width: int, out: Path) -> None:
    """One process."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    whole = torch.randn(rows, width, generator=torch.Generator().manual_seed(0))
    table = _sharded(whole)
    held = sum(len(local) for local, _ in _shards(table))
    asked = torch.randint(
        rows, (_LOOKUPS,), generator=torch.Generator().manual_seed(dist.get_rank())
    )
    if not torch.equal(_look_up(table, asked), whole[asked]):
        raise RuntimeError("the sharded table gives other vectors")
    began = time.process_time()
    for _ in range(_TIMES):
        _look_up(table, asked)
    spent = (time.process_time() - began) / (_TIMES * _LOOKUPS)
    _check_best(whole, rows)
    if dist.get_rank() == 0:
        found = {"sharded_lookup_us": 1e6 * spent, "sharded_share_held": held / rows}
        out.write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def _sharded(whole: Tensor) -> Any:
    """The table row-wise over all processes, filled with `whole`."""
    import torchrec
    from torchrec.distributed.embedding import EmbeddingCollectionSharder
    from torchrec.distributed.model_parallel import DistributedModelParallel
    from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
    from torchrec.distributed.types import ShardingEnv, ShardingPlan

    rows, width = whole.shape
    config = torchrec.EmbeddingConfig(
        name="catalogue", embedding_dim=width, num_embeddings=rows, feature_names=["item"]
    )
    plain = torchrec.EmbeddingCollection(tables=[config], device=torch.device("meta"))
    sharder = EmbeddingCollectionSharder()
    plan = construct_module_sharding_plan(
        plain, {"catalogue": row_wise()}, sharder=sharder,
        local_size=dist.get_world_size(), world_size=dist.get_world_size(), device_type="cpu",
    )  # fmt: skip
    made = DistributedModelParallel(
        plain,
        device=torch.device("cpu"),
        env=ShardingEnv.from_process_group(dist.GroupMember.WORLD),
        plan=ShardingPlan({"": plan}),
        sharders=[sharder],
    )
    for local, first in _shards(made):
        with torch.no_grad():
            local.copy_(whole[first : first + len(local)])
    return made


def _shards(table: Any) -> list[tuple[Tensor, int]]:
    """This process's rows, and the number of the first of them."""
    return [
        (shard.tensor, shard.metadata.shard_offsets[0])
        for weight in table.state_dict().values()
        for shard in weight.local_shards()
    ]


def _look_up(table: Any, items: Tensor) -> Tensor:
    import torchrec

    asked = torchrec.KeyedJaggedTensor.from_lengths_sync(
        keys=["item"], values=items, lengths=torch.ones(len(items), dtype=torch.int64)
    )
    with torch.no_grad():
        found: Tensor = table(asked).wait()["item"].values()
    return found


def _check_best(whole: Tensor, rows: int) -> None:
    """The best ten of the best tens."""
    rank, count = dist.get_rank(), dist.get_world_size()
    first, last = rank * rows // count, (rank + 1) * rows // count
    query = torch.randn(whole.shape[1], generator=torch.Generator().manual_seed(1))
    values, places = (whole[first:last] @ query).topk(10)
    every: list[Any] = [None] * count
    dist.all_gather_object(every, (values, places + first))
    merged = torch.cat([each[0] for each in every]).topk(10).indices
    best = torch.cat([each[1] for each in every])[merged]
    if best.tolist() != (whole @ query).topk(10).indices.tolist():
        raise RuntimeError("the best of the shards are not the best of all")


if __name__ == "__main__":
    _work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
