"""The verdict follows the tests: one sentence, the gaps behind it, and what limits them."""

from __future__ import annotations

from seqloom.evaluation.cost_benefit import Outcome
from seqloom.evaluation.differences import Difference
from seqloom.evaluation.record import RunRecord
from seqloom.evaluation.reference import Reference
from seqloom.evaluation.sentences import Result
from seqloom.evaluation.verdict import Verdict, build_verdict

REFERENCE = Reference("sasrec", True, "chosen")


def record(name: str, **fields: object) -> RunRecord:
    return RunRecord.build({"name": name, "system": name, "metrics": {}, "seed": 42, **fields})


def difference(run: float, p: float, reference: float = 0.05, group: str = "all") -> Difference:
    return Difference(
        metric="ndcg@10", group=group, users=9, reference=reference, run=run, p_holm=p
    )


RUNS = [
    record("popularity", yardstick=True),
    record("llmesr", uses_language_model=True, train_seconds=100.0),
    record("llminit", uses_language_model=True),
    record("sasrec", train_seconds=50.0),
]


def verdict(
    overall: dict[str, Result], outcomes: dict[str, Outcome], reference: Reference = REFERENCE
) -> Verdict:
    return build_verdict(RUNS, reference, overall, outcomes)


def test_it_is_about_the_best_run_of_the_best_outcome() -> None:
    overall: dict[str, Result] = {
        "popularity": difference(0.02, 0.0001),
        "llmesr": difference(0.06, 0.0001),
        "llminit": difference(0.07, 0.2),
    }
    made = verdict(overall, {"llmesr": "pays", "llminit": "not shown"})
    assert (made.outcome, made.run) == ("pays", "llmesr")
    assert made.headline == "On this data, the language model pays."
    said = [sentence.replace("\u202f", " ") for sentence in made.evidence]
    assert said == [
        "llmesr scores 20.0 % above sasrec on NDCG@10 (p < .001), for 2.0 times the training "
        "(100 s against 50 s).",
        "Of the other runs with a language model, no gain is shown for llminit.",
        "popularity scores 60.0 % below sasrec on NDCG@10 (p < .001).",
    ]
    assert made.cautions[1] == "One seed each (42): another training may turn close results."


def test_what_is_not_shown_is_said_so() -> None:
    overall: dict[str, Result] = {"llmesr": difference(0.045, 0.63)}
    made = verdict(overall, {"llmesr": "not shown"})
    assert made.headline == "On this data, no gain from the language model is shown."
    assert "10.0\u202f% below sasrec on NDCG@10 (may be chance, p = .63)" in made.evidence[0]
    made = verdict(overall, {"llmesr": "does not pay"})
    assert made.headline == "On this data, the language model does not pay."
    made = verdict(overall, {"llmesr": "unknown"})
    assert made.headline.startswith("Whether the language model pays is unknown")


def test_a_gain_in_one_group_is_not_one_over_all_users() -> None:
    overall: dict[str, Result] = {
        "llmesr": difference(0.055, 0.63),
        "llminit": difference(0.056, 0.9),
    }
    outcomes: dict[str, Outcome] = {"llmesr": "not shown", "llminit": "not shown"}
    groups = [
        difference(0.08, 0.004, group="tail_item"),
        difference(0.04, 0.4, group="head_item"),
        difference(0.055, 0.63),
    ]
    made = build_verdict(RUNS, REFERENCE, overall, outcomes, by_group={"llmesr": groups})
    assert made.headline == (
        "On this data, a gain from the language model is shown on rare items, not over all users."
    )
    assert made.run == "llmesr", "the one with a gain, although the other scores higher"
    assert made.evidence[1].replace("\u202f", " ") == (
        "On rare items llmesr scores 60.0 % above sasrec (p = .004)."
    )
    groups[1] = difference(0.04, 0.004, group="head_item")
    made = build_verdict(RUNS, REFERENCE, overall, outcomes, by_group={"llmesr": groups})
    assert made.headline == "On this data, no gain from the language model is shown."


def test_without_a_language_model_it_ranks() -> None:
    names = ("popularity", "llmesr")
    worse: dict[str, Result] = {name: difference(0.02, 0.001) for name in names}
    assert verdict(worse, {}).headline == "On this data, sasrec is ahead of all other runs."
    better: dict[str, Result] = {**worse, "llmesr": difference(0.08, 0.001)}
    assert verdict(better, {}).headline == "On this data, llmesr is ahead of sasrec."
    chance: dict[str, Result] = {**worse, "llmesr": difference(0.08, 0.3)}
    assert verdict(chance, {}).headline == "On this data, no run is shown to be better than sasrec."


def test_seeds_and_a_biased_choice_are_cautions() -> None:
    overall: dict[str, Result] = {"llmesr": difference(0.06, 0.01)}
    biased = Reference("sasrec", True, "chosen", biased=True)
    assert "which flatters it" in verdict(overall, {}, biased).cautions[-1]
    runs = [record(f"{s}-{n}", series=s, seed=n) for s in ("sasrec", "llmesr") for n in (1, 2)]
    overall = {run.name: difference(0.06, 0.01) for run in runs[1:]}
    made = build_verdict(runs, Reference("sasrec-1", True, ""), overall, {})
    assert made.cautions == ["One data set: another may turn the order."]


def test_a_language_model_without_weight_is_named() -> None:
    runs = [record("sasrec"), record("llmesr", unused_language_model=True)]
    made = build_verdict(runs, REFERENCE, {"llmesr": difference(0.06, 0.01)}, {})
    assert "The language model of llmesr has no weight in the scores." in made.cautions
    used = build_verdict(RUNS, REFERENCE, {"llmesr": difference(0.06, 0.01)}, {})
    assert not any("no weight" in caution for caution in used.cautions)


def test_a_gain_may_be_that_of_the_words() -> None:
    outcomes: dict[str, Outcome] = {"llmesr": "pays"}
    model = record("llmesr", uses_language_model=True, reads_text=True)
    plain, words = record("sasrec"), record("words", reads_text=True)
    counted = words.model_copy(update={"yardstick": True})

    def cautions(*records: RunRecord) -> str:
        names = {each.name for each in records} - {REFERENCE.name}
        overall: dict[str, Result] = {name: difference(0.06, 0.01) for name in names}
        return " ".join(build_verdict(records, REFERENCE, overall, outcomes).cautions)

    assert "train texttower" in cautions(model, plain)
    assert "train texttower" in cautions(model, plain, counted)
    assert "texttower" not in cautions(model, plain, words)
    ids_alone = model.model_copy(update={"reads_text": False})
    assert "texttower" not in cautions(ids_alone, plain)
