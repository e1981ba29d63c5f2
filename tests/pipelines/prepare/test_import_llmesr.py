"""The authors' files become a data set whose rows are those of the files, whatever the order."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from seqloom.core.errors import ArtefactError, ConfigError, DataError
from seqloom.core.progress import SilentProgress
from seqloom.data.store import Dataset
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.prepare.import_llmesr import (
    COMPONENTS,
    ITEMS,
    SIMILAR,
    USERS,
    import_llmesr,
)
from seqloom.pipelines.train.train import train
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.llmesr.system import LLMESR
from seqloom.text.pca import pca
from seqloom.text.store import load_embeddings

NUM_ITEMS, NUM_USERS = 30, 25


def histories() -> list[list[int]]:
    """Items from 30 down, so that the order of first appearance is not that of the numbers."""
    return [[30 - (u * 7 + n * n) % NUM_ITEMS for n in range(3 + u % 6)] for u in range(NUM_USERS)]


def dump(path: Path, value: Any) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.fixture
def handled(tmp_path: Path) -> Path:
    """A folder as the authors publish it."""
    folder = tmp_path / "handled"
    folder.mkdir()
    lines = [f"{u + 1} {item}" for u, row in enumerate(histories()) for item in row]
    (folder / "inter.txt").write_text("\n".join(lines) + "\n")
    draw = np.random.default_rng(0)
    items = draw.normal(size=(NUM_ITEMS, 24))
    dump(folder / ITEMS, items)
    dump(folder / COMPONENTS, items @ np.linalg.svd(items, full_matrices=False)[2].T[:, :8])
    dump(folder / USERS, draw.normal(size=(NUM_USERS, 24)).astype(np.float32))
    others = [[v for v in draw.permutation(NUM_USERS) if v != u][:12] for u in range(NUM_USERS)]
    dump(folder / SIMILAR, np.array(others))
    return folder


def read(path: Path) -> np.ndarray:
    return pickle.loads(path.read_bytes())


def test_every_row_is_that_of_its_id(handled: Path, tmp_path: Path) -> None:
    summary = import_llmesr(handled, tmp_path / "data")
    assert (summary.users, summary.width, summary.similar_users) == (NUM_USERS, 24, 12)
    assert (summary.text, summary.components, summary.missing) == ("handled", "handled-pca64", [])
    made = Dataset.load(tmp_path / "data")
    assert summary.events == sum(map(len, histories()))
    whole = [
        made.item_ids[n - 1]
        for user in range(NUM_USERS)
        for n in made.events.items[
            int(made.events.offsets[user]) : int(made.events.offsets[user + 1])
        ].tolist()
    ]
    by_user = dict(zip(made.user_ids, range(NUM_USERS), strict=True))
    assert sorted(by_user) == sorted(str(u + 1) for u in range(NUM_USERS))
    expected = [str(item) for user in made.user_ids for item in histories()[int(user) - 1]]
    assert whole == expected
    text = load_embeddings(made)
    items, users = read(handled / ITEMS), read(handled / USERS)
    for n, one in enumerate(made.item_ids):
        np.testing.assert_allclose(text.items[n], items[int(one) - 1], rtol=1e-6)
    for n, one in enumerate(made.user_ids):
        np.testing.assert_array_equal(text.users[n], users[int(one) - 1])
    similar, actual = read(handled / SIMILAR), text.similar_users(5)
    for n, one in enumerate(made.user_ids):
        ids = [int(made.user_ids[v]) - 1 for v in actual[n].tolist()]
        assert ids == similar[int(one) - 1, :5].tolist()


def test_the_systems_train_on_it_with_the_authors_components(handled: Path, tmp_path: Path) -> None:
    import_llmesr(handled, tmp_path / "data")
    made = Dataset.load(tmp_path / "data")
    config = {
        "epochs": 1,
        "encoder": {"hidden_size": 8, "max_len": 8},
        "semantic": {"encoder": "shared"},  # the import has vectors, and no texts
        "collaborative_text": "handled-pca64",
        "distillation": {"num_similar": 10},
    }
    train(made, "llmesr", out=tmp_path / "run", config=config, device="cpu")
    actual = evaluate(
        tmp_path / "run", protocol="sampled", tail_item_below=4, tail_user_below=9, device="cpu"
    )
    assert actual.thresholds.item == 4
    assert actual.details.negatives == 100


def test_the_item_table_starts_from_the_components(handled: Path, tmp_path: Path) -> None:
    import_llmesr(handled, tmp_path / "data")
    made = Dataset.load(tmp_path / "data")
    shifted = load_embeddings(made, "handled-pca64").items
    for name, text in (("handled-pca64", shifted), (None, load_embeddings(made).items)):
        config = LLMESR.config_class.build(
            {
                "encoder": {"hidden_size": 8},
                "semantic": {"encoder": "shared"},
                "collaborative_text": name,
            }
        )
        system = LLMESR(config, Sizes(num_items=made.num_items, text_size=24))
        system.initialise(TrainingData(made))
        table = pca(text, 8, config.whitening)
        torch.testing.assert_close(
            system.collaborative.data, table * (config.initial_std / table.std())
        )


def test_missing_files_are_listed(handled: Path, tmp_path: Path) -> None:
    for file in (USERS, COMPONENTS, SIMILAR):
        (handled / file).unlink()
    summary = import_llmesr(handled, tmp_path / "data")
    assert summary.missing == [USERS, COMPONENTS, SIMILAR]
    assert (summary.components, summary.similar_users) == (None, 0)
    assert load_embeddings(Dataset.load(tmp_path / "data")).users is None


def bad_similar(values: Any) -> Callable[..., Any]:
    def change(folder: Path) -> None:
        dump(folder / SIMILAR, values)

    return change


CHANGES = {
    "no interactions": (lambda f: (f / "inter.txt").unlink(), r"has no inter\.txt"),
    "no embeddings": (lambda f: (f / ITEMS).unlink(), "has no itm_emb_np.pkl"),
    "too few items": (lambda f: dump(f / ITEMS, np.zeros((29, 4))), "29 rows, but .* up to 30"),
    "too few users": (lambda f: dump(f / USERS, np.zeros((3, 24))), "3 rows, but .* up to 25"),
    "not a matrix": (lambda f: dump(f / ITEMS, np.zeros(30)), r"shape \(30,\)"),
    "no fractions": (
        lambda f: dump(f / ITEMS, np.zeros((30, 4), int)),
        "are floating-point numbers",
    ),
    "not finite": (lambda f: dump(f / ITEMS, np.full((30, 4), np.nan)), "NaN"),
    "no array": (lambda f: dump(f / ITEMS, [[1.0]]), "step EMPTY_LIST"),
    "counted from 0": (
        lambda f: (f / "inter.txt").write_text("0 1\n0 2\n0 3\n"),
        "user '0'.*count from 1",
    ),
    "words": (lambda f: (f / "inter.txt").write_text("u 1\nu 2\nu 3\n"), "user 'u'"),
    "out of range": (bad_similar(np.full((25, 2), 25)), "users that are not in inter.txt"),
    "themselves": (bad_similar(np.repeat(np.arange(25)[:, None], 2, 1)), "to themselves"),
    "fractions": (bad_similar(np.zeros((25, 2))), "integers and at least"),
    "similar without users": (lambda f: (f / USERS).unlink(), "not usr_emb_np.pkl"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    name: str, handled: Path, tmp_path: Path
) -> None:
    change, message = CHANGES[name]
    change(handled)
    with pytest.raises(DataError, match=message):
        import_llmesr(handled, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["handled"]


def test_unused_rows_are_a_warning(handled: Path, tmp_path: Path) -> None:
    class Recording(SilentProgress):
        warnings: ClassVar[list[str]] = []

        def warn(self, message: str) -> None:
            self.warnings.append(message)

    dump(handled / ITEMS, np.random.default_rng(0).normal(size=(NUM_ITEMS + 2, 24)))
    recording = Recording()
    import_llmesr(handled, tmp_path / "data", progress=recording)
    assert any("2 rows are unused" in message for message in recording.warnings)


def test_it_replaces_only_on_request(handled: Path, tmp_path: Path) -> None:
    import_llmesr(handled, tmp_path / "data")
    with pytest.raises(ArtefactError, match="already exists"):
        import_llmesr(handled, tmp_path / "data")
    import_llmesr(handled, tmp_path / "data", name="other", overwrite=True)
    assert load_embeddings(Dataset.load(tmp_path / "data")).name == "other"
    with pytest.raises(ConfigError):
        import_llmesr(handled, tmp_path / "more", name="a/b")
