"""At every step of `prepare --engine` a worker is killed: nothing is lost and nothing doubled."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.progress import SILENT, Progress
from seqloom.jobs.base import Work
from seqloom.jobs.local import LocalRunner
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.out_of_core import prepare_out_of_core
from seqloom.pipelines.prepare.prepare import prepare
from support.equal_datasets import assert_equal
from support.event_logs import make_log, write_files

pytestmark = pytest.mark.slow


class Deadly(LocalRunner):
    """Kills the first worker of each step when it has done its last piece, before it says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(2)
        self.folder = folder

    def run(
        self, work: Work, pieces: Sequence[int], *, name: str, progress: Progress = SILENT
    ) -> list[Any]:
        mark = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        deadly = functools.partial(work_and_die, work, str(mark), pieces[-1])
        return super().run(deadly, pieces, name=name, progress=progress)


def work_and_die(work: Any, mark: Any, deadly: Any, piece: Any) -> Any:
    if piece == deadly and not Path(mark).exists():
        Path(mark).touch()
        work(piece)
        os.kill(os.getpid(), signal.SIGKILL)
    return work(piece)


def test_a_worker_killed_at_every_step(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    options = PrepareOptions(min_count=4, split="temporal", cold_items=0.1)
    log = make_log(11)
    folder = write_files(log, tmp_path / "log", 3)
    with Deadly(tmp_path / "marks") as engine:
        made = prepare_out_of_core(engine, folder, tmp_path / "parts", options=options, parts=3)
    assert_equal(made, prepare(log, tmp_path / "one", options=options))
    killed = {file.name.rpartition("-")[0] for file in (tmp_path / "marks").iterdir()}
    assert killed >= {"read piece", "gather bucket", "count items", "survey bucket", "write range"}
