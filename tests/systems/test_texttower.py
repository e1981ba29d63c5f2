"""TextTower: items and histories by their words alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from seqloom.core.errors import ConfigError
from seqloom.core.protocols import NewItems
from seqloom.data.sequences import Sequences
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.text.words.vocabulary import Vocabulary
from support.datasets import SMALL, tiny_dataset
from support.untrained_systems import untrained_system

TITLES = ["red soap", "blue soap", "Red lamp!", "old mug", "mug, mug red", "new pot"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rows = [[1, 2, 3, 4, 5], [2, 3, 6, 1], [6, 5, 4, 3, 2], [1, 4, 6, 5]]
    return tiny_dataset(tmp_path_factory.mktemp("data") / "words", rows, titles=TITLES)


def untrained(data: Any, *overrides: Any) -> Any:
    system = untrained_system(
        data, "texttower", "words.min_count=1", "words.pairs=false", *overrides
    ).eval()
    with torch.no_grad():
        system.words.log_weights.uniform_(-1, 1)
    return system


def test_an_item_is_the_weighted_mean_of_its_words(data: Any) -> None:
    system = untrained(data)
    vectors, weights = system.words.vectors.double(), system.words.log_weights.double().exp()
    rows = system.vocabulary
    texts = system._texts(data.items)
    for text, found in zip(texts, system.item_vectors(), strict=True):
        tokens = rows.tokenizer.encode(text).ids
        own = [int(rows.rows[token]) for token in tokens]
        want = sum(weights[row] * vectors[row] for row in own)
        torch.testing.assert_close(found, (want / want.norm()).float())


def test_recency_alone_is_a_sum_with_a_weight_for_each_age(data: Any) -> None:
    system = untrained(data, "query=recency", "temperature=0.5", "decay=0.5")
    batch = Sequences.from_lists([[2, 1, 5], [4]]).pad()
    vectors = system.item_vectors()
    found = system.queries(batch.items, batch.lengths, vectors)
    first = F.normalize(vectors[4] + 0.5 * vectors[0] + 0.25 * vectors[1], dim=0) / 0.5
    torch.testing.assert_close(found, torch.stack([first, vectors[3] / 0.5]))
    assert not any(p.requires_grad for p in system.encoder.parameters())


def test_a_new_item_stands_where_its_words_do_also_after_loading(data: Any, tmp_path: Path) -> None:
    config = {**SMALL, "words": {"min_count": 1}}
    train(data, "texttower", out=tmp_path / "run", config=config, device="cpu")
    run = load_run(tmp_path / "run")
    system: Any = run.system
    reader = system.rows_of(lambda: pytest.fail("nothing has to be fitted"))
    rows = reader(NewItems(["x", "y"], data.items.slice(1, 2)), run.item_tables)
    torch.testing.assert_close(rows.tables["vectors"], run.item_tables["vectors"][1:3])


def test_rare_and_new_words_share_a_vector(data: Any) -> None:
    system = untrained(data, "words.min_count=2")
    bags = system.vocabulary.bags(["old", "pot", "unheard of", "", "red"])
    assert bags.tokens.tolist()[:-1] == [0] * 5
    assert bags.tokens[-1] > 0
    assert bags.starts.tolist() == [0, 1, 2, 4, 5]


def test_words_of_a_catalogue_have_no_pretrained_vectors(data: Any) -> None:
    with pytest.raises(ConfigError, match="start=pretrained"):
        untrained(data, "words.start=pretrained")


def test_pairs_of_words_have_vectors_where_several_items_contain_them(
    data: Any, tmp_path: Path
) -> None:
    titles = ["red soap bar", "a red soap", "soap red"]
    known = tiny_dataset(tmp_path / "pairs", [[1, 2, 3]], titles=titles)
    system = untrained(known, "words.pairs=true", "words.min_count=2", "words.template='{title}'")
    words = system.vocabulary
    assert len(words.pairs) == 1
    bags = words.bags(["red soap", "soap red", "new red soap red"])
    pair = words.size - 1
    assert bags.starts.tolist() == [0, 3, 5]
    assert (bags.tokens == pair).nonzero().flatten().tolist() == [2, 9]
    words.save(tmp_path)
    again = Vocabulary.load(tmp_path).bags(["new red soap red"])
    assert again.tokens.tolist() == bags.tokens[5:].tolist()
