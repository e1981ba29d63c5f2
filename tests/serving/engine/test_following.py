"""Reloads that another server of the same store announced, in every kind of store."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import StoreError
from seqloom.data.store import Dataset
from seqloom.serving.config import EngineConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.following import ReloadFollower
from seqloom.serving.engine.observer import Unobserved


class Told(Unobserved):
    """Keeps what an engine reports."""

    def __init__(self) -> None:
        self.reloads: list[bool] = []
        self.errors: list[str] = []

    def reload(self, model: str, ok: bool) -> None:
        self.reloads.append(ok)

    def store_error(self, what: str) -> None:
        self.errors.append(what)


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that needs no training."""
    from seqloom.pipelines.train.train import train

    out = tmp_path_factory.mktemp("following") / "popularity"
    train(dataset, "popularity", out=out, device="cpu")
    return out


@pytest.fixture
def path(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture
def engine(opened: Callable[..., Any], path: Path) -> Iterator[Callable[..., Any]]:
    """Opens engines of the same run, each with its own connection; returns (engine, told)."""
    made = []

    def again() -> tuple[Engine, Told]:
        reported = Told()
        made.append(Engine({"m": path}, opened(), EngineConfig(refresh_s=0.02), observer=reported))
        return made[-1], reported

    yield again
    for each in made:
        each.close()


def until(true: Callable[..., Any]) -> None:
    ends = time.monotonic() + 20
    while not true():
        assert time.monotonic() < ends, "never"
        time.sleep(0.005)


def test_an_announced_reload_is_followed_once_by_the_others(engine: Callable[..., Any]) -> None:
    (one, told_one), (other, told_other) = engine(), engine()
    before = other.model()
    one.reload()
    time.sleep(0.1)
    assert other.model() is before  # not announced
    one.announce_reload()
    until(lambda: other.model() is not before)
    time.sleep(0.1)
    assert (told_one.reloads, told_other.reloads) == ([True], [True])
    other.reload()
    other.announce_reload()
    until(lambda: len(told_one.reloads) == 2)
    time.sleep(0.1)
    assert (told_one.reloads, told_other.reloads) == ([True] * 2, [True] * 2)


def test_what_was_announced_before_the_start_is_not_followed(engine: Callable[..., Any]) -> None:
    one, _ = engine()
    one.announce_reload()
    _, reported = engine()
    time.sleep(0.1)
    assert reported.reloads == []


def test_a_run_that_cannot_be_opened_is_kept_out(engine: Callable[..., Any], path: Path) -> None:
    (one, _), (other, reported) = engine(), engine()
    before = other.model()
    manifest = (path / "manifest.json").read_bytes()
    (path / "manifest.json").write_bytes(b"damaged")
    one.announce_reload()
    until(lambda: reported.reloads == [False])
    assert other.model() is before
    (path / "manifest.json").write_bytes(manifest)
    one.announce_reload()
    until(lambda: reported.reloads == [False, True])
    assert other.model() is not before


class Counter:
    """A store that counts announcements; one of another server can come between."""

    def __init__(self) -> None:
        self.number = 0
        self.others = 0
        self.fails = False

    def reloads(self) -> int:
        if self.fails:
            raise StoreError("gone")
        return self.number

    def announce_reload(self) -> int:
        self.number += 1 + self.others
        return self.number


def test_announcements_that_cross_are_both_followed() -> None:
    reported = Told()
    store: Any = Counter()
    carried: list[int] = []
    follower = ReloadFollower(store, lambda: carried.append(1), 0.01, reported)
    store.others = 1  # announced by another server between two looks
    follower.announce()
    store.others = 0
    follower.start()
    until(lambda: carried)
    store.fails = True
    until(lambda: reported.errors)
    store.fails, before = False, len(carried)
    store.number += 1
    until(lambda: len(carried) == before + 1)
    follower.close()
