"""Worker processes: what they return, what happens when one dies, and what stops a job."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqloom.core.errors import ConfigError, DataError, EngineError
from seqloom.jobs import JobOptions, build_runner
from seqloom.jobs.local import LocalRunner
from support.pieces import always_die, die_first_time, raise_error, square


@pytest.fixture
def two() -> Iterator[LocalRunner]:
    with LocalRunner(2) as engine:
        yield engine


def test_workers_stay_from_one_job_to_the_next_and_end_at_the_close() -> None:
    with LocalRunner(1) as engine:
        first = engine.run(square, [1], name="x")
        second = engine.run(square, [2], name="x")
        pid = first[0][1]
        assert second[0][1] == pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_results_come_in_the_order_of_the_pieces_from_several_processes(two: LocalRunner) -> None:
    made = two.run(square, [3, 1, 2, 5], name="x")
    assert [value for value, _, _ in made] == [9, 1, 4, 25]
    assert os.getpid() not in {pid for _, pid, _ in made}
    assert {threads for _, _, threads in made} == {os.environ.get("OMP_NUM_THREADS", "1")}


def test_a_killed_worker_is_replaced_and_its_piece_restarted(tmp_path: Path) -> None:
    work = functools.partial(die_first_time, str(tmp_path), 2)
    with LocalRunner(1) as engine:
        assert engine.run(work, range(4), name="x") == [0, 1, 2, 3]
    begun = sorted(file.name.split("-")[1] for file in tmp_path.iterdir())
    assert begun == ["0", "1", "2", "2", "3"]


def test_a_piece_at_which_workers_die_again_and_again_ends_the_job() -> None:
    with pytest.raises(EngineError, match=r"4 workers died at piece 0, the last was ended with 7"):
        LocalRunner(1).run(always_die, [0], name="x")


def test_an_error_stops_the_job_and_keeps_its_kind() -> None:
    with pytest.raises(DataError, match="the log is empty"):
        LocalRunner(1).run(raise_error, [1], name="x")
    with pytest.raises(EngineError, match=r"(?s)piece 0 failed.*ValueError: a fault"):
        LocalRunner(1).run(raise_error, [0], name="x")


def test_no_pieces_are_no_work(two: LocalRunner) -> None:
    assert two.run(square, [], name="x") == []


def test_options_of_another_engine_are_refused() -> None:
    assert build_runner(JobOptions(workers=3)).slots() == 3
    with pytest.raises(ConfigError, match="the engine is local"):
        build_runner(JobOptions(ray_address="auto"))
