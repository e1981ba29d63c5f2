"""The judgement of a language model, and the sentence on its gain and cost."""

from __future__ import annotations

import pytest

from seqloom.evaluation.cost_benefit import cost_benefit_sentence, cost_clauses, judge
from seqloom.evaluation.differences import Difference
from seqloom.evaluation.record import RunRecord


def record(name: str, uses_language_model: bool, **costs: float) -> RunRecord:
    return RunRecord(
        name=name, system=name, metrics={}, uses_language_model=uses_language_model, **costs
    )


PLAIN = record("sasrec", False, train_seconds=200.0, latency_ms=2.0)
MODEL = record("llmesr", True, train_seconds=500.0, embed_seconds=100.0, latency_ms=3.0)


def overall(reference: float, run: float, p: float | None) -> Difference:
    return Difference(
        metric="ndcg@10", group="all", users=9, reference=reference, run=run, p_holm=p
    )


def sentence(model: RunRecord, plain: RunRecord, result: Difference, **options: object) -> str:
    outcome = judge(result, **options)  # type: ignore[arg-type]
    assert outcome is not None
    ahead = options.get("ahead", ())
    return cost_benefit_sentence(model, plain, result, outcome, ahead).replace(  # type: ignore[arg-type]
        "\u202f", " "
    )


def test_a_gain_is_stated_with_its_cost() -> None:
    assert sentence(MODEL, PLAIN, overall(0.05, 0.06, 0.0001)) == (
        "The language model pays: llmesr is 20.0 % above sasrec on NDCG@10 (p < .001), for 3.0 times the "
        "training (10 min against 3 min, embedding the texts included) and 1.5 times the latency "
        "(3.0 ms against 2.0 ms a request)."
    )


@pytest.mark.parametrize(
    ("run", "p", "start"),
    [
        (0.04, 0.001, "The language model does not pay: llmesr is 20.0 % below sasrec"),
        (0.051, 0.3, "It is not shown that the language model pays: llmesr is 2.0 % above sasrec"),
    ],
)
def test_a_loss_and_an_insignificant_gain(run: float, p: float, start: str) -> None:
    assert sentence(MODEL, PLAIN, overall(0.05, run, p)).startswith(start)


def test_a_gain_does_not_count_while_another_run_is_ahead_or_none_was_trained() -> None:
    gain = overall(0.05, 0.06, 0.0001)
    assert judge(gain) == "pays"
    assert judge(gain, only_yardsticks=True) == "unknown"
    assert judge(gain, ahead=["gru4rec"]) == "not shown"
    assert sentence(MODEL, PLAIN, gain, ahead=["gru4rec"]).endswith(", but gru4rec is above it.")
    assert sentence(MODEL, PLAIN, overall(0.05, 0.04, 0.5), ahead=["a", "b"]).endswith(
        "; a and b are above it too."
    )
    assert judge(overall(0.05, 0.06, None)) is None


def test_unknown_costs_are_omitted() -> None:
    assert sentence(record("m", True), record("p", False), overall(0.05, 0.06, 0.01)) == (
        "The language model pays: m is 20.0 % above p on NDCG@10 (p = .010), at an unknown cost."
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(100.0, "0.3 times the training"), (10.0, "less than a tenth of the training")],
)
def test_a_small_multiple_is_said_in_words(seconds: float, said: str) -> None:
    """At one decimal 0.03 times would be 0.0 times."""
    quick = record("textknn", True, train_seconds=seconds)
    (clause,) = cost_clauses(quick, record("sasrec", False, train_seconds=300.0))
    assert clause.startswith(f"{said} (")
