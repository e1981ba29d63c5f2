"""Two Ray nodes on loopback: the same results as anywhere, also where a worker or a node is killed."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
import torch

from seqloom.core.errors import ConfigError, DataError, EngineError
from seqloom.jobs import JobOptions, build_runner
from seqloom.jobs.base import JobRunner
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.embed_shards import embed_sharded
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.prepare.out_of_core import prepare_out_of_core
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.recommend.recommend_shards import ListsJob, open_lists, recommend_by
from seqloom.pipelines.train.train import train
from seqloom.text.store import load_embeddings
from support.datasets import tiny_dataset
from support.pieces import die_first_time, raise_error, slow_piece, square

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'seqloom[ray]'")
pytestmark = pytest.mark.slow
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


class Cluster:
    """Two nodes with one core each; all are processes of this test."""

    def __init__(self, folder: Path) -> None:
        self.address = ""
        self.folder = folder
        here = [str(Path(__file__).parents[1]), *sys.path]
        self.environment = os.environ | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, here)),
        }
        self.nodes: list[subprocess.Popen] = []
        self.add()
        self.add()

    def add(self) -> None:
        """One more node. Ray gives a node 30 s to start, which a busy machine may miss: tried again."""
        for _ in range(5):
            if not self.nodes:
                self.address = f"127.0.0.1:{free_port()}"
            node = self._start(len(self.nodes))
            if self._wait(node, len(self.nodes) + 1):
                self.nodes.append(node)
                return
            kill_tree(node.pid)
            node.wait()
        raise AssertionError(self._logs())

    def _start(self, number: int) -> subprocess.Popen:
        command = [*RAY, "start", "--node-ip-address", "127.0.0.1", "--num-cpus", "1", "--block"]
        command += ["--disable-usage-stats", "--object-store-memory", "100000000"]
        if number:
            command += ["--address", self.address]
        else:
            port = self.address.rpartition(":")[2]
            command += ["--head", "--port", port, "--include-dashboard", "false"]
            command += ["--temp-dir", str(self.folder)]
        with (self.folder / f"node-{number}.log").open("w") as log:
            return subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self, node: subprocess.Popen, number: int) -> bool:
        """Whether so many nodes come to be alive."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and node.poll() is None:
            try:
                if not ray.is_initialized():
                    ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
                if sum(node["Alive"] for node in ray.nodes()) >= number:
                    return True
            except (ConnectionError, RuntimeError):
                pass
            time.sleep(0.5)
        return False

    def _logs(self) -> str:
        return "\n".join(file.read_text()[-2000:] for file in self.folder.glob("node-*.log"))

    def stop(self) -> None:
        ray.shutdown()
        for node in reversed(self.nodes):
            kill_tree(node.pid)
            node.wait()


def kill_tree(pid: int) -> None:
    """Kill a process that this test started, with its children."""
    try:
        parent = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    for process in [parent, *parent.children(recursive=True)]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path("/tmp") / f"seqloom-ray-{os.getpid()}"  # a socket's path must be short
    folder.mkdir()
    made = Cluster(folder)
    yield made
    made.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def engine(cluster: Cluster) -> JobRunner:
    return build_runner(JobOptions(engine="ray", ray_address=cluster.address))


def test_pieces_run_on_both_nodes_in_order(engine: JobRunner) -> None:
    assert engine.slots() == 2
    made = engine.run(square, range(6), name="x")
    assert [value for value, _, _ in made] == [0, 1, 4, 9, 16, 25]
    assert {threads for _, _, threads in made} == {"1"}


def test_a_killed_worker_loses_nothing_and_doubles_nothing(
    engine: JobRunner, tmp_path: Path
) -> None:
    work = functools.partial(die_first_time, str(tmp_path), 3)
    assert engine.run(work, range(6), name="x") == list(range(6))
    begun = sorted(file.name.split("-")[1] for file in tmp_path.iterdir())
    assert begun == ["0", "1", "2", "3", "3", "4", "5"]


def test_errors_keep_their_kind(engine: JobRunner) -> None:
    with pytest.raises(DataError, match="the log is empty"):
        engine.run(raise_error, [1], name="x")
    with pytest.raises(EngineError, match="a fault"):
        engine.run(raise_error, [0], name="x")


def test_embeddings_equal_those_of_one_machine_though_a_worker_is_killed(
    cluster: Cluster, engine: JobRunner, tmp_path: Path
) -> None:
    """The worker is killed from outside, by signal 9, while its shard is half done."""
    titles = [f"thing number {n}" for n in range(6000)]
    histories = [[1 + (u * 7 + step) % 6000 for step in range(5)] for u in range(50)]
    data = tiny_dataset(tmp_path / "data", histories, titles)
    killed: list[int] = []
    watcher = threading.Thread(target=kill_a_busy_worker, args=(cluster, data.path, killed))
    watcher.start()
    summary = embed_sharded(engine, data, EmbedOptions(encoder="hash:64"), shards=4)
    watcher.join()
    other = tiny_dataset(tmp_path / "other", histories, titles)
    embed(other, EmbedOptions(encoder="hash:64"))
    assert killed
    assert summary.encoded == 6050
    made, expected = load_embeddings(data), load_embeddings(other)
    assert torch.equal(made.items, expected.items)
    assert torch.equal(made.users, expected.users)


def kill_a_busy_worker(cluster: Cluster, path: Path, killed: list[int]) -> None:
    """Kill a worker process of either node as soon as a shard is finished and others are on their way."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        if list(path.glob("text/.*.shards/.*work")) or list(path.glob("text/.*.shards/shard-*")):
            for node in cluster.nodes:
                for process in psutil.Process(node.pid).children(recursive=True):
                    if process.name().startswith("ray::seqloom"):
                        process.send_signal(signal.SIGKILL)
                        killed.append(process.pid)
                        return
        time.sleep(0.005)


def test_a_log_is_prepared_and_users_are_recommended_to(engine: JobRunner, tmp_path: Path) -> None:
    """Both are what a single process makes, by every user and event and by every list."""
    draw = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in draw.integers(0, 300, 4000)],
            "item_id": [f"i{n}" for n in (draw.pareto(1.0, 4000) * 9).astype(int) % 80],
            "timestamp": draw.integers(1_500_000_000, 1_500_900_000, 4000),
        }
    )
    (tmp_path / "log").mkdir()
    for number, part in enumerate(log.iter_slices(900)):
        part.write_parquet(tmp_path / "log" / f"{number}.parquet")
    expected = prepare(log, tmp_path / "one")
    made = prepare_out_of_core(engine, tmp_path / "log", tmp_path / "parts", parts=3)
    assert made.fingerprint == expected.fingerprint
    assert made.manifest.statistics == expected.manifest.statistics
    train(made, "popularity", out=tmp_path / "run")
    lists = recommend_by(
        engine, ListsJob(run=str(tmp_path / "run"), out=str(tmp_path / "out")), shards=3
    )
    _, table = open_lists(lists.out)
    single = recommend(tmp_path / "run", all_users=True)
    rows = [(entry.user, item.item_id, item.score) for entry in single for item in entry.items]
    columns = (table.column(name).to_pylist() for name in ("user_id", "item_id", "score"))
    assert list(zip(*columns, strict=True)) == rows


def test_a_killed_node_loses_nothing(cluster: Cluster, engine: JobRunner, tmp_path: Path) -> None:
    """The second node dies with its worker; the pieces that it had go to the first."""
    node = cluster.nodes.pop()
    threading.Timer(3.0, kill_tree, args=(node.pid,)).start()
    work = functools.partial(slow_piece, str(tmp_path), 1.0)
    assert engine.run(work, range(8), name="x") == list(range(8))
    node.wait()
    # Its worker may have died while it wrote a piece, whose `.part` then stays.
    written = {file.name for file in tmp_path.iterdir() if file.suffix != ".part"}
    assert written == {f"done-{n}" for n in range(8)}
    cluster.add()


def test_a_cluster_that_is_not_there_is_named(cluster: Cluster) -> None:
    script = (
        "from seqloom.jobs import JobOptions, build_runner\n"
        "from seqloom.core.errors import EngineError\n"
        "try: build_runner(JobOptions(engine='ray', ray_address='127.0.0.1:1'))\n"
        "except EngineError as error: print(error)\n"
    )
    environment = os.environ | {
        "RAY_NUM_REDIS_GET_RETRIES": "1",
        "RAY_gcs_rpc_server_connect_timeout_s": "1",
    }
    message = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120
    )
    assert "no Ray cluster answers at 127.0.0.1:1" in message.stdout, message.stderr


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"seqloom\[ray\]"):
        build_runner(JobOptions(engine="ray"))
