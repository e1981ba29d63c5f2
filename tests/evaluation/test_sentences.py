"""The sentence states one gap from one side: the run against the reference, then by group."""

from seqloom.evaluation.differences import Difference
from seqloom.evaluation.sentences import comparison_sentence
from seqloom.evaluation.wording import group_label, in_group


def result(group: str, reference: float, run: float, p: float) -> Difference:
    return Difference(
        metric="ndcg@10", group=group, users=9, reference=reference, run=run, p_holm=p
    )


def sentence(run: str, reference: str, results: list[Difference]) -> str:
    return comparison_sentence(run, reference, results).replace("\u202f", " ")


def test_a_gain_with_mixed_groups() -> None:
    results = [
        result("all", 0.050, 0.060, 0.0001),
        result("tail_item", 0.01, 0.02, 0.004),
        result("head_item", 0.110, 0.100, 0.02),
        result("tail_user", 0.05, 0.055, 0.3),
        Difference(metric="ndcg@10", group="head_user", users=0),
        Difference(metric="hr@10", group="all", users=9, reference=0.5, run=0.1, p_holm=0.001),
    ]
    assert sentence("New", "Old", results) == (
        "New scores 20.0 % above Old on NDCG@10 (p < .001); on rare items 100.0 % above (p = .004) and on "
        "popular items 9.1 % below (p = .020); not shown for short histories."
    )


def test_a_loss_has_the_same_reference() -> None:
    assert sentence("New", "Old", [result("all", 0.06, 0.05, 0.01)]) == (
        "New scores 16.7 % below Old on NDCG@10 (p = .010)."
    )


def test_a_difference_that_is_not_shown() -> None:
    results = [result("all", 0.05, 0.051, 0.4), result("tail_item", 0.1, 0.1, 1.0)]
    assert sentence("New", "Old", results) == (
        "It is not shown that New and Old differ on NDCG@10 (New is 2.0 % above, p = .40); "
        "not shown within any group."
    )
    results[1] = result("tail_item", 0.1, 0.2, 0.01)
    assert "; on rare items 100.0 % above (p = .010)." in sentence("New", "Old", results)


def test_the_same_value_and_gains_from_zero() -> None:
    assert sentence("New", "Old", [result("all", 0.1, 0.1, 1.0)]) == (
        "It is not shown that New and Old differ on NDCG@10: both score 0.1000."
    )
    assert "0.0200 above 0 (from Old)" in sentence("New", "Old", [result("all", 0, 0.02, 0.01)])


def test_groups_have_words() -> None:
    assert (group_label("tail_item"), in_group("tail_item")) == ("rare items", "on rare items")
    assert in_group("head_user") == "for long histories"
    assert group_label("of_my_own") == "of my own"
