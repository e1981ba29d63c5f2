"""Data sets as histories: one log is one history, whatever becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from seqloom.core.progress import SILENT, SilentProgress
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.serving.importing import import_histories
from seqloom.serving.store.base import Event

LOG = [
    (user, item, 1_600_000_001 + 4 * n + k)
    for n, (user, items) in enumerate([("anna", "abcd"), ("ben", "bcda"), ("cleo", "cdae")])
    for k, item in enumerate(items)
]
NEXT_DAY = [*LOG, ("anna", "e", 1_600_000_020)]


class _Model:
    def __init__(self, folder: Path) -> None:
        self.name, self.run = folder.name, load_run(folder)


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Any]:
    """Prepare some rows and train a counting model."""
    number = 0

    def make(rows: Any, *, times: bool = True, **options: Any) -> _Model:
        nonlocal number
        number += 1
        log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
        log = log if times else log.drop("timestamp")
        data = prepare(
            log,
            tmp_path / f"data{number}",
            options=PrepareOptions(**{"min_count": 0, **options}),
        )
        train(data, "popularity", out=tmp_path / f"run{number}", device="cpu")
        return _Model(tmp_path / f"run{number}")

    return make


@pytest.mark.parametrize("times", [True, False])
def test_data_sets_of_one_log_are_one_history(
    store: Any, model: Callable[..., Any], times: bool
) -> None:
    other = {"split": "temporal"} if times else {"min_count": 1}
    together = [model(LOG, times=times), model(LOG, times=times, **other)]
    assert import_histories(store, together, SILENT) == 12
    assert import_histories(store, [model(NEXT_DAY, times=times)], SILENT) == 1
    assert store.histories(["anna", "ben"], 99) == {"anna": list("abcde"), "ben": list("bcda")}


def test_posted_events_and_erasures_survive_the_next_import(
    store: Any, model: Callable[..., Any]
) -> None:
    import_histories(store, [model(LOG)], SILENT)
    store.append([Event("anna", "e", 1_600_000_020)])
    store.erase("ben")
    assert import_histories(store, [model(NEXT_DAY)], SILENT) == 0
    assert store.histories(["anna", "ben"], 99) == {"anna": list("abcde")}


def test_events_in_the_future_are_reported(store: Any, model: Callable[..., Any]) -> None:
    ahead = int(time.time()) + 10**6
    warnings: list[str] = []

    class Heard(SilentProgress):
        def warn(self, message: str) -> None:
            warnings.append(message)

    import_histories(store, [model([*LOG, ("anna", "a", ahead), ("ben", "b", ahead)])], Heard())
    assert len(warnings) == 1
    assert warnings[0].startswith("2 events of ")
