"""The term of repeated items, by hand and through the chunked softmax."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from seqloom.nn.losses import softmax_loss
from seqloom.nn.repeats import RepeatTerm

BUCKET = [0, 1, 1, 2, 2, 2, 2, *[3] * 8, *[4] * 16, *[5] * 9]


def made() -> RepeatTerm:
    term = RepeatTerm()
    torch.manual_seed(0)
    for parameter in term.parameters():
        parameter.data.normal_()
    return term


def by_hand(term: RepeatTerm, history: list[int], num_items: int) -> list[float]:
    values = [0.0] * num_items
    for item in set(history):
        age = len(history) - 1 - max(n for n, other in enumerate(history) if other == item)
        recency, often = term.recency.tolist()[BUCKET[age]], term.often.item()
        values[item - 1] = 10 * (recency + often * math.log(history.count(item)))
    return values


def dense(term: Any, items: Any, rows: Any, ends: Any, num_items: Any) -> Any:
    columns, values = term(items, rows, ends)
    return torch.zeros(len(rows), num_items).scatter_add(1, columns, values)


def test_terms_are_those_of_the_last_occurrence_and_the_count() -> None:
    term = made()
    long = [n % 7 + 1 for n in range(40)]
    long[0] = 9
    histories = [[3, 5, 3, 3, 2], [4], long]
    items = torch.zeros(3, 40, dtype=torch.int64)
    for row, history in enumerate(histories):
        items[row, : len(history)] = torch.tensor(history)
    rows = torch.tensor([0, 0, 0, 1, 2, 2])
    ends = torch.tensor([5, 3, 1, 1, 40, 17])
    found = dense(term, items, rows, ends, 10)
    for number, (row, end) in enumerate(zip(rows.tolist(), ends.tolist(), strict=True)):
        want = torch.tensor(by_hand(term, histories[row][:end], 10))
        torch.testing.assert_close(found[number].detach(), want, rtol=1e-5, atol=1e-5)


def test_an_empty_history_has_no_term() -> None:
    columns, values = made()(torch.tensor([[4, 2]]), torch.tensor([0]), torch.tensor([0]))
    assert not columns.any()
    assert not values.any()


@pytest.mark.parametrize("chunk", [3, 100])
def test_the_chunked_softmax_has_the_value_and_gradients_of_the_dense_one(chunk: Any) -> None:
    term = made()
    items = torch.randint(1, 12, (4, 6), generator=torch.Generator().manual_seed(1))
    rows, ends = torch.arange(4).repeat_interleave(6), torch.arange(1, 7).repeat(4)
    hidden = torch.randn(24, 5, requires_grad=True)
    weight = torch.randn(11, 5, requires_grad=True)
    targets, offset = torch.randint(0, 11, (24,)), torch.randn(11)
    sought = [hidden, weight, *term.parameters()]
    logits = hidden @ weight.t() + offset + dense(term, items, rows, ends, 11)
    want = F.cross_entropy(logits, targets)
    expected = torch.autograd.grad(3 * want, sought)
    terms = term(items, rows, ends)
    found = softmax_loss(hidden, weight, targets, chunk=chunk, offset=offset, terms=terms)
    torch.testing.assert_close(found, want)
    for one, other in zip(torch.autograd.grad(3 * found, sought), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
