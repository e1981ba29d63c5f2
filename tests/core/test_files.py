"""A folder that is overwritten is the old one or the new one, wherever the process dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqloom.core import files, storage
from seqloom.core.errors import ArtefactError, StorageError
from seqloom.core.files import (
    atomic_file,
    atomic_folder,
    find_leftovers,
    read_json,
    sole_writer,
    write_json,
)

_STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "seqloom.exchange"}
"""What the interpreter announces before it changes names on the disk."""


def content(folder: Path) -> dict[Any, Any]:
    return {file.name: file.read_text() for file in sorted(folder.iterdir())}


def overwrite(path: Path) -> None:
    with atomic_folder(path, overwrite=True) as work:
        (work / "a").write_text("new")
        (work / "b").write_text("new")


def die_at(step: int, act: Callable[..., Any]) -> bool:
    """Run `act` in a child that dies before its `step`-th change of names; whether it got so far."""
    child = os.fork()
    if child == 0:
        count = 0

        def watch(event: Any, _arguments: Any) -> None:
            nonlocal count
            if event in _STEPS:
                count += 1
                if count == step:
                    os._exit(9)

        def announced(
            first: Any, second: Any, exchange: Callable[..., Any] = files.exchange
        ) -> Any:
            sys.audit("seqloom.exchange", first, second)
            return exchange(first, second)

        files.exchange = announced
        sys.addaudithook(watch)
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("exchanges", [True, False])
def test_killed_at_any_step_the_old_or_the_new_folder_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if exchanges and storage._exchange_call() is None:
        pytest.skip("the platform cannot exchange names")
    if not exchanges:
        monkeypatch.setattr(files, "exchange", lambda first, second: False)
    old, new = {"a": "old", "c": "old"}, {"a": "new", "b": "new"}
    step, seen = 1, []
    while True:
        path = tmp_path / str(step) / "made"
        path.mkdir(parents=True)
        for name, text in old.items():
            (path / name).write_text(text)
        died = die_at(step, lambda at=path: overwrite(at))
        if exchanges:
            assert path.exists(), step  # one exchange: it never is gone
        with sole_writer(path):
            pass
        actual = content(path)
        assert actual in (old, new), step
        seen.append(actual == new)
        assert [file.name for file in path.parent.iterdir()] == ["made"], step
        if not died:
            break
        step += 1
    assert step > 4
    assert seen == sorted(seen)
    assert seen[0] is False
    assert seen[-1] is True


def test_what_an_older_seqloom_left_of_an_overwrite_goes_back(tmp_path: Path) -> None:
    old = tmp_path / ".run.abcdefgh.old" / "run"
    old.mkdir(parents=True)
    (old / "a").write_text("kept")
    (tmp_path / ".run.hgfedcba.part").mkdir()
    (tmp_path / ".run.v2.hgfedcba.part").mkdir()  # of a folder `run.v2`
    with pytest.raises(ArtefactError, match=r"interrupted.*\.run\.abcdefgh\.old"):
        read_json(tmp_path / "run" / "manifest.json", "run")
    with sole_writer(tmp_path / "run"):
        pass
    assert content(tmp_path / "run") == {"a": "kept"}
    assert sorted(file.name for file in tmp_path.iterdir()) == [".run.v2.hgfedcba.part", "run"]


def test_leftovers_are_those_of_the_very_name(tmp_path: Path) -> None:
    for name in (
        ".a.12345678.part",
        ".a.b.12345678.part",
        ".a.12345678.old",
        ".a.parts",
        ".a.part",
    ):
        (tmp_path / name).mkdir()
    assert [one.name for one in find_leftovers(tmp_path / "a", "part")] == [".a.12345678.part"]
    assert [one.name for one in find_leftovers(tmp_path / "a.b", "part")] == [".a.b.12345678.part"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    overwrite(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "there") == {"a": "new", "b": "new"}


def test_a_file_is_not_overwritten_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtefactError, match="is a file"):
        overwrite(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_files_are_on_the_disk_before_they_get_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    fsync, rename = os.fsync, files._replace

    def synced(handle: Any) -> None:
        events.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def renamed(path: Path, work: Path) -> None:
        events.append("renamed")
        rename(path, work)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(files, "_replace", renamed)
    overwrite(tmp_path / "made")
    at = events.index("renamed")
    assert {os.path.basename(name) for name in events[:at]} >= {"a", "b"}
    assert events[at + 1 :] == [str(tmp_path)]


def test_a_sealed_document_shows_any_change(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"value": 0.1, "ü": [1, {"x": None}]}, sealed=True)
    assert read_json(file, "thing") == {"value": 0.1, "ü": [1, {"x": None}]}
    file.write_text(file.read_text().replace("0.1", "0.2"))
    with pytest.raises(ArtefactError, match="changed since seqloom wrote it"):
        read_json(file, "thing")
    write_json(file, {"value": 0.2})  # of an older seqloom
    assert read_json(file, "thing") == {"value": 0.2}


@pytest.mark.parametrize("text", ["[" * 5000, '{"a": "\udcff"}', "{", "\x00", "NaN,"])
def test_what_is_no_json_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ArtefactError, match=r"a\.json is damaged"):
        read_json(file, "thing")


@pytest.mark.parametrize("write", ["file", "folder"])
def test_a_full_disk_leaves_nothing_and_reports_the_free_space(tmp_path: Path, write: str) -> None:
    path = tmp_path / "made"

    def act() -> None:
        if write == "folder":
            with atomic_folder(path) as work:
                (work / "first").write_text("whole")
                raise OSError(28, "No space left on device", str(work / "second"))
        with atomic_file(path) as work:
            work.write_text("half")
            raise OSError(28, "No space left on device", str(work))

    with pytest.raises(StorageError, match=r"made could not be written.* MiB are free.*--resume"):
        act()
    assert list(tmp_path.iterdir()) == []
