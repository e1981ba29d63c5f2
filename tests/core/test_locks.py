"""One writer for each folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from seqloom.core import locks
from seqloom.core.errors import LockedError
from seqloom.core.locks import holder, writing

_HOLD = """
import sys, time
from seqloom.core.locks import writing
with writing(sys.argv[1], shared=len(sys.argv) > 2):
    print("held", flush=True)
    time.sleep(60)
"""


def other(path: Path, *more: Any) -> subprocess.Popen[str]:
    """Another process that holds the lock of `path`."""
    command = [sys.executable, "-c", _HOLD, str(path), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_second_writer_hears_who_holds_the_lock_and_a_kill_releases_it(tmp_path: Path) -> None:
    process = other(tmp_path / "run")
    try:
        with (
            pytest.raises(
                LockedError, match=rf"run is in progress.*process {process.pid} on "
            ) as e,
            writing(tmp_path / "run"),
        ):
            pass
        assert "started at 20" in str(e.value)
        assert f"process {process.pid} on" in holder(tmp_path / "run")
    finally:
        end(process)
    assert holder(tmp_path / "run") is None
    with writing(tmp_path / "run"):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_two_names_of_a_folder_have_one_lock(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    process = other(tmp_path / "run")
    try:
        with pytest.raises(LockedError), writing(tmp_path / "link"):
            pass
    finally:
        end(process)


def test_the_same_thread_enters_again_and_another_does_not(tmp_path: Path) -> None:
    actual = []

    def enter() -> None:
        try:
            with writing(tmp_path / "run"):
                actual.append("entered")
        except LockedError as error:
            actual.append(str(error))

    with writing(tmp_path / "run"):
        with writing(tmp_path / "run"):
            pass
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert "another thread of this process" in actual[0]
    enter()
    assert actual[1] == "entered"


def test_writers_of_different_parts_share_a_folder_against_one_that_replaces_it(
    tmp_path: Path,
) -> None:
    process = other(tmp_path / "data", "shared")
    try:
        with writing(tmp_path / "data", shared=True):
            pass
        with pytest.raises(LockedError), writing(tmp_path / "data"):
            pass
    finally:
        end(process)
    with writing(tmp_path / "data"):
        pass


def test_a_forked_child_keeps_no_lock_alive(tmp_path: Path) -> None:
    read, write = os.pipe()
    with writing(tmp_path / "run"):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)  # until the parent has ended its block
            os._exit(0)
    process = other(tmp_path / "run")
    end(process)
    os.close(write)
    os.waitpid(child, 0)
    os.close(read)


def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="has no locks"), writing(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
