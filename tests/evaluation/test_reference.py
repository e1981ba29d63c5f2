"""The choice of the reference does not depend on the order of the runs."""

import dataclasses
import itertools
from typing import Any

import pytest
import torch

from seqloom.evaluation.compare import Comparison, compare_runs
from seqloom.evaluation.evaluated_run import EvaluatedRun
from seqloom.evaluation.reference import choose_reference
from support.evaluated_runs import RunFactory, with_record

FAST: dict[str, Any] = {"resamples": 2000, "flips": 2000}
RANKS = torch.arange(1, 61)
SYSTEMS = {  # validation NDCG@10, shift of the ranks (with 9, rank 1 becomes 10)
    "popularity": (0.01, 40),
    "sasrec": (0.20, 3),
    "gru4rec": (0.15, 2),
    "llmesr": (0.22, 0),
    "textknn": (0.10, 5),
}


@pytest.fixture
def runs(make_run: RunFactory) -> dict[str, EvaluatedRun]:
    runs = {}
    for name, (valid, shift) in SYSTEMS.items():
        runs[name] = with_record(
            make_run(name, (RANKS // 6 + shift).clamp(min=1)),
            system=name,
            valid={"ndcg@10": valid},
            uses_language_model=name in ("llmesr", "textknn"),
            yardstick=name in ("popularity", "textknn"),
        )
    return runs


def pays(comparison: Comparison) -> dict[str, str]:
    return {pair.run: pair.pays for pair in comparison.pairs if pair.pays}


def test_the_best_on_validation_is_the_reference_in_any_order(
    runs: dict[str, EvaluatedRun],
) -> None:
    sentences = set()
    for order in itertools.permutations(["popularity", "sasrec", "gru4rec", "llmesr"]):
        comparison = compare_runs([runs[name] for name in order], **FAST)
        assert comparison.reference == "sasrec"
        assert {pair.reference for pair in comparison.pairs} == {"sasrec"}
        assert "highest NDCG@10 on validation (.2000)" in comparison.reference_chosen
        assert "test metrics were not used" in comparison.reference_chosen
        sentences.add(tuple(sorted(pays(comparison).items())))
    # gru4rec has better test metrics, which must not decide.
    (one,) = sentences
    assert one[0][1].startswith("The language model pays: llmesr is")
    assert "above sasrec" in one[0][1]


def test_it_does_not_pay_while_a_run_without_one_is_ahead(runs: dict[str, EvaluatedRun]) -> None:
    runs["gru4rec"] = dataclasses.replace(
        runs["gru4rec"],
        table=dataclasses.replace(runs["gru4rec"].table, ranks=torch.ones_like(RANKS)),
    )
    comparison = compare_runs(
        [runs[n] for n in ("popularity", "sasrec", "gru4rec", "llmesr")], **FAST
    )
    sentence = pays(comparison)["llmesr"]
    assert sentence.startswith("It is not shown that the language model pays: llmesr is")
    assert sentence.endswith(", but gru4rec is above it.")


def test_beating_a_yardstick_is_not_enough(runs: dict[str, EvaluatedRun]) -> None:
    comparison = compare_runs([runs["popularity"], runs["llmesr"]], **FAST)
    assert pays(comparison)["llmesr"].startswith(
        "Whether the language model pays is unknown, since no trained run without one is compared: "
        "llmesr is"
    )
    assert "the only run without a language model" in comparison.reference_chosen
    # A yardstick that is the best on validation is a reference like any other.
    best = with_record(runs["sasrec"], name="itemknn", yardstick=True)
    comparison = compare_runs([best, runs["gru4rec"], runs["llmesr"]], **FAST)
    assert pays(comparison)["llmesr"].startswith("The language model pays: llmesr is")


def test_of_all_pairs_only_those_with_the_reference_are_judged(
    runs: dict[str, EvaluatedRun],
) -> None:
    order = ["llmesr", "popularity", "sasrec", "textknn"]
    comparison = compare_runs([runs[name] for name in order], pairs="all", **FAST)
    assert [(p.reference, p.run) for p in comparison.pairs] == list(
        itertools.combinations(["sasrec", "llmesr", "popularity", "textknn"], 2)
    )
    judged = {(p.reference, p.run) for p in comparison.pairs if p.pays}
    assert judged == {("sasrec", "llmesr"), ("sasrec", "textknn")}


def test_without_a_language_model_the_best_on_validation_is_the_reference(
    runs: dict[str, EvaluatedRun],
) -> None:
    for names in (["popularity", "sasrec"], ["sasrec", "popularity"]):
        comparison = compare_runs([runs[name] for name in names], **FAST)
        assert comparison.reference == "sasrec"
        assert not pays(comparison)


def test_the_first_is_the_reference_if_all_use_one(runs: dict[str, EvaluatedRun]) -> None:
    comparison = compare_runs([runs[name] for name in ("textknn", "llmesr")], **FAST)
    assert comparison.reference == "textknn"
    assert not pays(comparison)


def test_the_same_gap_is_one_number_everywhere(runs: dict[str, EvaluatedRun]) -> None:
    comparison = compare_runs([runs[n] for n in ("llmesr", "popularity", "sasrec")], **FAST)
    pair = next(each for each in comparison.pairs if each.run == "llmesr")
    found = comparison.difference("llmesr", "ndcg@10")
    assert found is not None
    assert found.relative is not None
    amount = f"{100 * found.relative:.1f}\u202f% above"
    assert amount in pair.sentence
    assert pair.pays is not None
    assert amount in pair.pays
    assert amount in comparison.verdict.evidence[0]
    score = comparison.score("llmesr", "ndcg@10")
    assert score is not None
    assert score.value == found.run


def test_without_validation_metrics_the_tested_part_decides(runs: dict[str, EvaluatedRun]) -> None:
    some = with_record(runs["sasrec"], valid={}).record
    others = [runs["gru4rec"].record, runs["llmesr"].record]
    chosen = choose_reference([some, *others], "ndcg@10")
    assert chosen.name == "gru4rec"
    assert "on the tested part itself" in chosen.reason
    assert "validation metrics of this protocol are missing" in chosen.reason
    on_valid = choose_reference([runs["sasrec"].record, *others], "mrr", "valid")
    assert on_valid.name == "sasrec"
    assert "the part tested here" in on_valid.reason
