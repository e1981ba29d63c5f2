"""The cost-benefit sentence on a language model."""

from __future__ import annotations

import pytest

from seqloom.evaluation.compare import Difference
from seqloom.evaluation.cost_benefit import cost_benefit_sentence
from seqloom.evaluation.record import RunRecord


def record(name: str, uses_language_model: bool, **costs: float) -> RunRecord:
    return RunRecord(
        name=name, system=name, metrics={}, uses_language_model=uses_language_model, **costs
    )


PLAIN = record("sasrec", False, train_seconds=200.0, latency_ms=2.0)
MODEL = record("llmesr", True, train_seconds=500.0, embed_seconds=100.0, latency_ms=3.0)


def overall(reference: float, run: float, p: float) -> Difference:
    return Difference(
        metric="ndcg@10", group="all", users=9, reference=reference, run=run, p_holm=p
    )


def test_a_gain_is_stated_with_its_cost() -> None:
    assert cost_benefit_sentence(MODEL, PLAIN, overall(0.05, 0.06, 0.0001)) == (
        "The language model pays: llmesr is 20.0 % above sasrec on NDCG@10 (p < .001), for 3.0 times the "
        "training (600 s against 200 s, embedding the texts included) and 1.5 times the latency "
        "(3.0 ms against 2.0 ms a request)."
    )


def test_the_order_of_the_two_runs_does_not_matter() -> None:
    one = cost_benefit_sentence(MODEL, PLAIN, overall(0.05, 0.06, 0.0001))
    assert cost_benefit_sentence(PLAIN, MODEL, overall(0.06, 0.05, 0.0001)) == one


@pytest.mark.parametrize(
    ("run", "p", "start"),
    [
        (0.04, 0.001, "The language model does not pay: llmesr is 20.0 % below sasrec"),
        (0.051, 0.3, "It is not shown that the language model pays: llmesr is 2.0 % above sasrec"),
    ],
)
def test_a_loss_and_an_insignificant_gain(run: float, p: float, start: str) -> None:
    sentence = cost_benefit_sentence(MODEL, PLAIN, overall(0.05, run, p))
    assert sentence is not None
    assert sentence.startswith(start)


def test_unknown_costs_are_omitted() -> None:
    sentence = cost_benefit_sentence(
        record("m", True), record("p", False), overall(0.05, 0.06, 0.01)
    )
    assert (
        sentence == "The language model pays: m is 20.0 % above p on NDCG@10 (p = .010), "
        "at an unknown cost."
    )


def test_no_sentence_if_both_or_neither_use_a_language_model() -> None:
    assert cost_benefit_sentence(MODEL, MODEL, overall(0.05, 0.06, 0.01)) is None
    assert cost_benefit_sentence(PLAIN, PLAIN, overall(0.05, 0.06, 0.01)) is None
