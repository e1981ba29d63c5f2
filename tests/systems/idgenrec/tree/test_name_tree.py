"""Names from a tree: alike for what is bought together, unique, short, and decided by the training part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.sequences import Sequences
from seqloom.llm.generation.lexicon import Lexicon, collect_words
from seqloom.llm.generation.text_model import END
from seqloom.llm.generation.tokenizers import train_tokenizer
from seqloom.systems.idgenrec.config import TextualIDConfig
from seqloom.systems.idgenrec.ids import words_only
from seqloom.systems.idgenrec.tree.clusters import balanced_clusters
from seqloom.systems.idgenrec.tree.growth import _distinctive_words
from seqloom.systems.idgenrec.tree.item_space import build_space
from seqloom.systems.idgenrec.tree.name_tree import NameTree, _bags
from seqloom.systems.idgenrec.tree.namer import TreeNamer

KINDS = ["soap", "cream", "brush", "lamp", "mug", "rug"]
COLOURS = ["red", "blue", "green", "pink", "grey", "gold", "teal", "lime"]
WOODS = ["oak", "ash", "elm", "fir", "yew", "box", "pine", "palm"]


def shelf(items: int = 48) -> tuple[list[str], list[str]]:
    """Items i of kind i % 6 in one of eight colours; ids do not follow their numbers."""
    texts = [f"a {COLOURS[i // 6 % 8]} {KINDS[i % 6]} of {WOODS[i // 4 % 8]}" for i in range(items)]
    return texts, [f"i{(i * 29) % 97}" for i in range(items)]


def baskets(groups: int = 4, items: int = 48, users: int = 160, seed: int = 0) -> Sequences:
    """Histories within one group each: items i with i % groups alike, whatever their words."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for user in range(users):
        own = torch.arange(user % groups, items, groups)
        rows.append((own[torch.randperm(len(own), generator=draw)[:6]] + 1).tolist())
    return Sequences.from_lists(rows)


def lexicon_of(texts: Sequence[str]) -> Lexicon:
    return Lexicon.build(collect_words(texts), train_tokenizer(list(texts), 400))


def config(**tree: Any) -> TextualIDConfig:
    return TextualIDConfig(
        make="tree",
        max_tokens=6,
        longest=6,
        tree={"levels": 1, "leaf_items": 12, "dims": 8, **tree},
    )


def name(
    train: Sequences, texts: list[str], ids: list[str], settings: TextualIDConfig | None = None
) -> list[str]:
    settings, lexicon = settings or config(), lexicon_of(texts)
    tree = NameTree.fit(train, texts, ids, lexicon, settings, seed=1)
    table, _ = TreeNamer(tree, lexicon, lexicon, settings).make(texts, ids)
    assert len(set(words_only(table))) == len(texts)
    assert int((table > END).sum(1).max()) <= 6
    return [lexicon.text(row) for row in table.tolist()]


def first_words(names: list[str]) -> list[str]:
    return [each.split()[0] for each in names]


def test_what_is_bought_together_begins_alike() -> None:
    """The log's groups go across the kinds and the colours, so the words alone could not tell them."""
    first = first_words(name(baskets(), *shelf(), config(events=0)))
    groups = [{first[i] for i in range(48) if i % 4 == group} for group in range(4)]
    assert [len(group) for group in groups] == [1, 1, 1, 1]
    assert len(set.union(*groups)) == 4, "siblings have different words"


def test_names_are_words_of_the_texts_and_none_is_there_twice() -> None:
    texts, ids = shelf()
    names = name(baskets(), texts, ids, config(levels=2, leaf_items=4))
    for each, text in zip(names, texts, strict=True):
        words = each.split()
        assert len(set(words)) == len(words)
        assert set(words) & set(text.split()), "an item has a word of its own"
    # A stop word only where all names of the other words are taken.
    assert sum("of" in each.split() for each in names) <= 1


def test_names_are_the_same_again_and_in_any_order_of_the_items() -> None:
    texts, ids = shelf()
    train, settings = baskets(), config(levels=2, leaf_items=4)
    expected = dict(zip(ids, name(train, texts, ids, settings), strict=True))
    assert dict(zip(ids, name(train, texts, ids, settings), strict=True)) == expected
    order = torch.randperm(48, generator=torch.Generator().manual_seed(9)).tolist()
    number = {item: place + 1 for place, item in enumerate(order)}  # item -> its new number
    rows = [
        [number[int(i) - 1] for i in train.items[start:end]]
        for start, end in zip(train.starts.tolist(), train.ends.tolist(), strict=True)
    ]
    moved = name(
        Sequences.from_lists(rows), [texts[i] for i in order], [ids[i] for i in order], settings
    )
    assert dict(zip([ids[i] for i in order], moved, strict=True)) == expected


def test_an_item_without_events_stands_where_its_words_put_it() -> None:
    """Kinds are bought together; nobody buys the first item of each kind."""
    texts, ids = shelf()
    train = baskets(groups=6)
    pairs = zip(train.starts.tolist(), train.ends.tolist(), strict=True)
    rows = [[i for i in train.items[start:end].tolist() if i > 6] for start, end in pairs]
    first = first_words(name(Sequences.from_lists(rows), texts, ids, config(leaf_items=8)))
    assert [len({first[i] for i in range(kind, 48, 6)}) for kind in range(6)] == [1] * 6
    assert len(set(first)) == 6


def test_a_new_item_goes_where_its_words_are_and_gets_a_name_that_is_free() -> None:
    texts, ids = shelf()
    settings, lexicon = config(leaf_items=8), lexicon_of(texts)
    tree = NameTree.fit(baskets(groups=6), texts, ids, lexicon, settings, seed=1)
    namer = TreeNamer(tree, lexicon, lexicon, settings)
    table, _ = namer.make(texts, ids)
    again, _ = namer.make(texts, ids)
    assert torch.equal(table, again)
    new, _ = namer.make(
        ["green lamp", "red rug", "unheard of", ""], list("abcd"), words_only(table)
    )
    names = [lexicon.text(row) for row in new.tolist()]
    known = first_words([lexicon.text(row) for row in table.tolist()])
    assert [each.split()[0] for each in names[:2]] == [known[3], known[5]]
    assert not set(words_only(new)) & set(words_only(table))
    assert len(set(names)) == 4


@pytest.mark.parametrize(
    ("texts", "rows"),
    [
        (["a red mug"], [[1, 1, 1]]),
        (["a red mug"], [[1]]),
        (["the same mug"] * 40, [[1, 2, 3], [3, 4]]),
        (["mug"] * 5 + ["", "...", "the of a", "12345", "\ud800"], [[1, 2, 9, 10]]),
        ([f"mug {'x' * n}" for n in range(30)], []),
        ([f"mug {'x' * n}" for n in range(30)], [[7], [8]]),
        ([f"mug number {n}" for n in range(3)], [[1, 2, 3]] * 9),
    ],
)  # fmt: skip
def test_barely_any_data_still_give_names(texts: list[str], rows: list[list[int]]) -> None:
    ids = [f"i{n}" for n in range(len(texts))]
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    for settings in (config(), config(levels=3, leaf_items=1, dims=64)):
        names = name(Sequences.from_lists(rows), texts, ids, settings)
        assert all(names)


def test_too_few_words_for_the_items_are_refused_in_a_sentence() -> None:
    texts = ["mug"] * 50
    settings = TextualIDConfig(make="tree", max_tokens=2, longest=2, tree={"levels": 1})
    lexicon = lexicon_of(texts)
    tree = NameTree.fit(
        Sequences.from_lists([]), texts, list(map(str, range(50))), lexicon, settings, 1
    )
    with pytest.raises(ConfigError, match="too few to name"):
        TreeNamer(tree, lexicon, lexicon, settings).make(texts, list(map(str, range(50))))


def test_clusters_are_balanced_and_have_the_nearest_rows() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.eye(4, dtype=torch.float64)
    rows = centres[torch.arange(100) % 4] + 0.1 * torch.randn(100, 4, generator=draw)
    rows = torch.nn.functional.normalize(rows, dim=1)
    labels, found = balanced_clusters(rows, 4, 1.5, draw)
    for kind in range(4):
        assert len(set(labels[kind::4].tolist())) == 1
    assert torch.equal((rows @ found.T).argmax(1), labels)
    same, _ = balanced_clusters(rows[:1].expand(40, -1), 4, 1.5, draw)
    assert int(same.bincount(minlength=4).max()) <= 15
    nothing, _ = balanced_clusters(torch.zeros(10, 3, dtype=torch.float64), 3, 1.0, draw)
    assert int(nothing.bincount(minlength=3).max()) <= 4


def test_a_cluster_is_named_by_what_sets_it_apart() -> None:
    """Scores against slow sums: items that have a word, times the log of its share over the share in all."""
    texts = ["mug red tall", "mug red", "mug blue tall", "mug blue", "mug green", "mug green tall"]
    lexicon = Lexicon(
        ("blue", "green", "mug", "red", "tall"), ((1,), (2,), (3,), (4,), (5,)), torch.arange(6)
    )
    bags = _bags(texts, lexicon)
    chosen = _distinctive_words([bags[[0, 1]], bags[[2, 3]], bags[[4, 5]]], torch.arange(5).numpy())
    assert [lexicon.words[word] for word in chosen] == ["red", "blue", "green"]


def test_siblings_do_not_share_the_word_that_is_best_for_both() -> None:
    texts = ["mug", "mug", "mug red", "mug", "mug", "mug blue", *["pot"] * 6]
    lexicon = Lexicon(("blue", "mug", "pot", "red"), ((1,), (2,), (3,), (4,)), torch.arange(5))
    bags = _bags(texts, lexicon)
    groups = [bags[[0, 1, 2]], bags[[3, 4, 5]], bags[[6, 7, 8, 9, 10, 11]]]
    chosen = _distinctive_words(groups, torch.arange(4).numpy())
    named = [lexicon.words[word] for word in chosen]
    assert named in (["mug", "blue", "pot"], ["red", "mug", "pot"])


def test_the_words_part_is_the_ridge_solution_and_the_graph_is_that_of_near_items() -> None:
    texts, _ = shelf(24)
    train = baskets(groups=2, items=24, users=20)
    lexicon, settings = lexicon_of(texts), config(dims=8, window=2, events=4).tree
    bags = _bags(texts, lexicon)
    order = torch.arange(24)
    vectors, words = build_space(train, bags, order, settings, seed=0)
    # The graph, slowly: pairs at most two places apart, by the inverse of their distance.
    graph = torch.zeros(24, 24, dtype=torch.float64)
    for start, end in zip(train.starts.tolist(), train.ends.tolist(), strict=True):
        row = train.items[start:end].tolist()
        for a in range(len(row)):
            for b in range(a + 1, min(a + 3, len(row))):
                graph[row[a] - 1, row[b] - 1] += 1 / (b - a)
                graph[row[b] - 1, row[a] - 1] += 1 / (b - a)
    scale = (graph.sum(1) + graph.sum(1).mean()).rsqrt()
    values, axes = torch.linalg.eigh(scale[:, None] * graph * scale)
    log = (axes * values.clamp(min=0))[:, -8:]
    log = torch.nn.functional.normalize(log, dim=1)
    counts = torch.bincount(train.flat()[1] - 1, minlength=24).double()
    known = (counts / (counts + 4))[:, None]
    x = torch.from_numpy(bags.toarray())
    rarity = torch.log(1 + 24 / x.sum(0))
    features = torch.nn.functional.normalize(x * rarity, dim=1)
    left = (known * features).T @ features + 0.5 * torch.eye(x.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(left, features.T @ (known * log)) * rarity[:, None]
    text = torch.nn.functional.normalize(x @ solution, dim=1)
    both = torch.nn.functional.normalize(known * log + (1 - known) * text, dim=1)
    # Axes are unique up to a rotation among equal ones: compare the angles between items.
    assert torch.allclose(vectors @ vectors.T, both @ both.T, atol=1e-4)
    expected = x @ solution
    actual = x @ words
    assert torch.allclose(actual @ actual.T, expected @ expected.T, atol=1e-4)
