"""One store for one shop: the next day's data set is taken, another catalogue's is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.progress import SILENT
from seqloom.data.store import Dataset
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.serving.engine.engine import Engine
from seqloom.serving.importing import events_of, import_histories
from seqloom.serving.lineage import StoreLineage, admit
from seqloom.serving.store import open_store
from seqloom.serving.store.base import Event, Store

DAY = 86_400
START = 1_600_000_000


class MadeRun:
    """What `admit` reads of a run."""

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.manifest = load_run(folder).manifest
        self._dataset = dataset
        self.item_ids = dataset.item_ids
        columns = dataset.items.column_names
        self.titles = dataset.items.column("title").to_pylist() if "title" in columns else None
        self.titles = self.titles or [None] * len(self.item_ids)

    def dataset(self) -> Dataset:
        if self._dataset is None:
            raise ArtefactError("gone")
        return self._dataset

    def without_dataset(self) -> MadeRun:
        self._dataset = None
        return self


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Any]:
    """Make a run of some (user, item, time) rows."""
    number = 0

    def make(rows: Any, titles: Any = None, *, times: bool = True, **options: Any) -> MadeRun:
        nonlocal number
        number += 1
        log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
        items = titles and pl.DataFrame({"item_id": list(titles), "title": list(titles.values())})
        dataset = prepare(
            log if times else log.drop("timestamp"), tmp_path / f"data{number}", items=items,
            options=PrepareOptions(min_count=0, **options),
        )  # fmt: skip
        folder = tmp_path / f"run{number}"
        train(dataset, "popularity", out=folder, device="cpu")
        return MadeRun(folder, dataset)

    return make


def take(store: Store, run: Any) -> None:
    """Admit a run and import its histories, as a start does."""
    admit(store, "shop", run)
    dataset = run.dataset()
    events = events_of(dataset, 0, dataset.num_users)
    store.import_events(dataset.fingerprint, [events])


def shop(users: list[str], items: list[str], *, first: int = 0, start: int = START) -> list[Any]:
    """Each of `users` with four of `items`, a day apart."""
    return [
        (user, items[(n + 3 * step + first) % len(items)], start + DAY * step + n)
        for n, user in enumerate(users)
        for step in range(4)
    ]


NUMBERS = [str(n) for n in range(1, 31)]
NAMES = [f"B{n:04d}" for n in range(30)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    store = open_store(f"sqlite:///{tmp_path / 's.db'}")
    yield store
    store.close()


def test_the_next_day_and_another_split_are_taken(made: Callable[..., Any], store: Store) -> None:
    rows = shop(NUMBERS[:10], NUMBERS)
    take(store, made(rows))
    take(store, made(rows, split="temporal"))
    take(store, made([*rows, ("1", "2", START + 9 * DAY), ("new", "40", START + 9 * DAY)]))
    assert len(store.export("1")) == 5
    held = StoreLineage.read(store.lineage())
    assert len(held.data_sets) == len(set(held.data_sets)) == 3
    assert len(held.items) == len({item for _, item, _ in rows} | {"2", "40"})


def test_a_sliding_window_is_taken(made: Callable[..., Any], store: Store) -> None:
    rows = shop(NUMBERS[:10], NUMBERS)
    take(store, made(rows))
    take(store, made([*rows[20:], *shop(NUMBERS[:10], NUMBERS, first=7, start=START + 9 * DAY)]))


def test_windows_without_common_events_are_taken_by_names_and_titles(
    made: Callable[..., Any], store: Store, tmp_path: Path
) -> None:
    later = START + 30 * DAY
    take(store, made(shop(["u1", "u2", "u3"], NAMES[:9])))
    take(store, made(shop(["u1", "u2", "u7"], NAMES[2:9], start=later)))
    other = open_store(f"sqlite:///{tmp_path / 'other.db'}")
    titles = {item: f"Title {item}" for item in NUMBERS}
    take(other, made(shop(["1", "2", "3"], NUMBERS[:9]), titles))
    take(other, made(shop(["1", "2", "7"], NUMBERS[2:9], start=later), titles))
    other.close()


def test_sequences_of_one_log_are_taken(made: Callable[..., Any], store: Store) -> None:
    rows = shop(NUMBERS[:10], NUMBERS)
    take(store, made(rows, times=False))
    take(store, made([*rows, ("1", "2", START + 9 * DAY)], times=False))
    take(store, made(rows))
    assert len(store.export("1")) == 5


MOVIES = {item: f"Movie {item}" for item in NUMBERS}
LIPSTICKS = {item: f"Lipstick {item}" for item in NUMBERS}


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        ((shop(NUMBERS[:10], NUMBERS),), (shop(["u1", "u2"], NAMES),), "items are in both"),
        (
            (shop(NUMBERS[:10], NUMBERS),),
            (shop(NUMBERS[:10], NUMBERS, first=1),),
            "other events",
        ),
        (
            (shop(NUMBERS[:10], NUMBERS),),
            (shop(NUMBERS[10:20], NUMBERS, first=1),),
            "plain numbers",
        ),
        (
            (shop(NUMBERS[:10], NUMBERS), MOVIES),
            (shop(NUMBERS[10:20], NUMBERS), LIPSTICKS),
            "other titles",
        ),
        (
            (shop(NUMBERS[:10], NUMBERS), MOVIES),
            (shop(NUMBERS[:10], NUMBERS, start=START + 90 * DAY), LIPSTICKS),
            "other titles",
        ),
    ],
)
def test_another_catalogue_is_refused(
    made: Callable[..., Any],
    store: Store,
    first: tuple[list[Any], dict[str, str]],
    then: Any,
    why: str,
) -> None:
    take(store, made(*first))
    before = store.lineage()
    other = made(*then)
    with pytest.raises(ConfigError, match=why) as error:
        admit(store, "shop", other)
    assert "--store" in str(error.value)
    assert store.lineage() == before
    with pytest.raises(ConfigError, match=r"are in both|plain numbers|other titles"):
        admit(store, "shop", other.without_dataset())
    admit(store, "shop", other, accept_other=True)
    admit(store, "shop", other)  # once is enough


def test_a_store_of_an_older_version_is_known_by_its_events(
    made: Callable[..., Any], store: Store
) -> None:
    rows = shop(NUMBERS[:10], NUMBERS)
    store.append([Event(*row) for row in rows])
    with pytest.raises(ConfigError, match="are in both"):
        admit(store, "shop", made(shop(["u1", "u2"], NAMES)))
    take(store, made(rows))
    assert store.lineage() is not None


def test_an_import_of_an_older_version_is_known_by_its_fingerprint(
    made: Callable[..., Any], store: Store
) -> None:
    run = made(shop(NUMBERS[:10], NUMBERS))
    store.import_events(run.manifest.dataset.fingerprint, [[Event("someone", "else", 1)]])
    admit(store, "shop", run)


def test_a_server_refuses_a_run_of_another_catalogue(
    made: Callable[..., Any], store: Store, tmp_path: Path
) -> None:
    made(shop(NUMBERS[:10], NUMBERS))
    made(shop(["u1", "u2"], NAMES))
    movies, lipsticks = tmp_path / "run1", tmp_path / "run2"
    with pytest.raises(ConfigError, match=r"run 'b' is of data set .* other users and items"):
        Engine({"a": movies, "b": lipsticks}, store)
    served = {"a": tmp_path / "served"}
    movies.rename(served["a"])
    engine = Engine(served, store)
    try:
        assert import_histories(store, engine.models.values(), SILENT) == 40
        served["a"].rename(movies)
        lipsticks.rename(served["a"])
        with pytest.raises(ConfigError, match="other users and items"):
            engine.reload()
        assert engine.model().run.item_ids[0] in NUMBERS
    finally:
        engine.close()
