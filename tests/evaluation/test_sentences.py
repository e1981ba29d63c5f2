"""The sentence says who wins, by how much of the loser, and where it is otherwise."""

from seqloom.evaluation.compare import Difference
from seqloom.evaluation.sentences import comparison_sentence, format_p


def result(group: str, reference: float, run: float, p: float) -> Difference:
    return Difference(
        metric="ndcg@10", group=group, users=9, reference=reference, run=run, p_holm=p
    )


def test_a_win_with_mixed_groups() -> None:
    results = [
        result("all", 0.050, 0.060, 0.0001),
        result("tail_item", 0.01, 0.02, 0.004),
        result("head_item", 0.110, 0.100, 0.02),
        result("tail_user", 0.05, 0.055, 0.3),
        Difference(metric="ndcg@10", group="head_user", users=0),
        Difference(metric="hr@10", group="all", users=9, reference=0.5, run=0.1, p_holm=0.001),
    ]
    assert comparison_sentence("New", "Old", results) == (
        "New beats Old on NDCG@10 by 20.0 % (p < .001), on tail items by 100.0 % (p = .004); "
        "Old is ahead on head items by 10.0 % (p = .020); no difference is shown for tail users."
    )


def test_a_loss_is_stated_from_the_winners_side() -> None:
    sentence = comparison_sentence("New", "Old", [result("all", 0.06, 0.05, 0.01)])
    assert sentence == "Old beats New on NDCG@10 by 20.0 % (p = .010)."


def test_no_difference_shown() -> None:
    results = [result("all", 0.05, 0.051, 0.4), result("tail_item", 0.1, 0.1, 1.0)]
    assert comparison_sentence("New", "Old", results) == (
        "No difference between New and Old is shown on NDCG@10 (New is ahead by 2.0 %, p = .400); "
        "no difference is shown within any group."
    )
    results[1] = result("tail_item", 0.1, 0.2, 0.01)
    assert "; New is ahead on tail items by 100.0 % (p = .010)" in comparison_sentence(
        "New", "Old", results
    )


def test_equal_runs_and_gains_from_zero() -> None:
    assert comparison_sentence("New", "Old", [result("all", 0.1, 0.1, 1.0)]) == (
        "New and Old are equal on NDCG@10."
    )
    assert "by 0.0200 (from 0)" in comparison_sentence("New", "Old", [result("all", 0, 0.02, 0.01)])


def test_p_values() -> None:
    assert [format_p(p) for p in (0.00099, 0.001, 0.0451, 1.0)] == [
        "p < .001",
        "p = .001",
        "p = .045",
        "p = 1.000",
    ]
