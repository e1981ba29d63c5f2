from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from seqloom.core.errors import ConfigError
from seqloom.llm.generation.prefix_tree import PAD, PrefixTree


def padded(rows: list[Any]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([list(row) + [PAD] * (width - len(row)) for row in rows])


def paths(tree: PrefixTree) -> dict[int, tuple[Any, ...]]:
    """Every leaf's item and tokens, by walking the tree."""
    actual = {}

    def walk(node: int, tokens: list[Any]) -> None:
        if tree.num_children[node] == 0:
            actual[int(tree.item[tree.first_leaf[node]])] = tuple(tokens)
        first = int(tree.first_child[node])
        for child in range(first, first + int(tree.num_children[node])):
            walk(child, [*tokens, int(tree.token[child])])

    walk(0, [])
    return actual


sequences = st.lists(
    st.lists(st.integers(1, 4), max_size=5).map(lambda row: (*row, 0)),
    min_size=1,
    max_size=30,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(sequences)
def test_the_tree_holds_the_sequences_and_no_others(rows: Any) -> None:
    tree = PrefixTree.build(padded(rows))
    assert paths(tree) == dict(enumerate(rows, start=1))
    assert tree.num_items == len(rows)
    prefixes = {row[:depth] for row in rows for depth in range(len(row) + 1)}
    assert len(tree.token) == len(prefixes)


@settings(max_examples=60, deadline=None)
@given(sequences)
def test_a_run_continues_while_there_is_one_child(rows: Any) -> None:
    tree = PrefixTree.build(padded(rows))
    for node in range(len(tree.token)):
        walked = [node]
        while tree.num_children[walked[-1]] == 1:
            walked.append(int(tree.first_child[walked[-1]]))
        assert int(tree.run[node]) == len(walked)
        assert int(tree.end[node]) == walked[-1]
        assert tree.follow_runs(torch.tensor(node), len(walked)).tolist() == walked


@settings(max_examples=40, deadline=None)
@given(sequences, st.data())
def test_a_node_is_all_seen_when_every_item_below_is(rows: Any, data: Any) -> None:
    tree = PrefixTree.build(padded(rows))
    numbers = st.integers(0, len(rows))
    seen = data.draw(st.lists(numbers, min_size=1, max_size=8))
    leaves = tree.leaves_of(torch.tensor([seen]))
    blocked = tree.all_leaves_in(torch.arange(len(tree.token))[None], leaves)[0]
    for node in range(len(tree.token)):
        below = tree.item[tree.first_leaf[node] : tree.end_leaf[node]].tolist()
        assert bool(blocked[node]) == (set(below) <= set(seen))


def test_equal_sequences_are_refused() -> None:
    with pytest.raises(ConfigError, match="items 1 and 3 have the same"):
        PrefixTree.build(padded([(1, 0), (2, 0), (1, 0)]))


def test_a_sequence_that_begins_another_is_refused() -> None:
    with pytest.raises(ConfigError, match="item 2 is a prefix of that of item 1"):
        PrefixTree.build(padded([(1, 2, 0), (1, 2), (3, 0)]))


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one token"):
        PrefixTree.build(torch.tensor([[1, 0], [PAD, PAD]]))
