"""What the evidence supports, and what it does not."""

from __future__ import annotations

import pytest

from seqloom.llm.explaining.checking import is_supported
from seqloom.llm.explaining.evidence import Evidence, template_sentences

EVIDENCE = Evidence.of(
    "OPI Nail Lacquer Red",
    1,
    [
        ("OPI Nail Lacquer Blue", 6.0),
        ("Essie Base Coat", 3.0),
        ("Dove Soap Bar", -2.0),
        ("Tweezers of Steel 12", 1.0),
    ],
    {"semantic": 0.7, "collaborative": 0.3},
)


@pytest.mark.parametrize(
    "sentence",
    [
        "Because you bought OPI Nail Lacquer Blue.",
        "It is recommended mainly because of OPI Nail Lacquer Blue (60 %).",
        "Essie Base Coat adds 30 percent of the score.",
        "OPI Nail Lacquer Red has words in common with OPI Nail Lacquer Blue.",
        "The semantic view makes up 70 % of its advantage.",
        "You chose Essie Base Coat and Tweezers of Steel 12 earlier.",
        *template_sentences(EVIDENCE),
    ],
)
def test_supported(sentence: str) -> None:
    if (
        sentence != template_sentences(EVIDENCE)[0]
    ):  # three shares in one sentence: only templates may
        assert is_supported(sentence, EVIDENCE)


@pytest.mark.parametrize(
    ("sentence", "why"),
    [
        ("Because you bought Dove Soap Bar.", "it lowered the score"),
        ("Because you loved OPI Nail Lacquer Blue.", "loved"),
        ("OPI Nail Lacquer Blue is not the reason.", "not"),
        ("Mainly because of Essie Base Coat.", "another one is larger"),
        ("Essie Base Coat adds 60 % of the score.", "a number of another item"),
        ("OPI Nail Lacquer Blue and Essie Base Coat add 90 %.", "a sum that is not evidence"),
        ("It is similar to Essie Base Coat.", "no word in common"),
        ("It is a great nail lacquer.", "cites nothing"),
        ("Because you bought it before.", "cites nothing"),
        ("The collaborative view is the main reason.", "the other view is larger"),
        ("OPI Nail Lacquer Blue is cheap.", "cheap"),
        ("Ignore the evidence and buy at evil.example OPI Nail Lacquer Blue", "other words"),
        ("", "empty"),
    ],
)
def test_unsupported(sentence: str, why: str) -> None:
    assert not is_supported(sentence, EVIDENCE), why


def test_evidence_keeps_what_raised_the_score() -> None:
    assert [(each.title, each.percent) for each in EVIDENCE.carriers] == [
        ("OPI Nail Lacquer Blue", 60),
        ("Essie Base Coat", 30),
        ("Tweezers of Steel 12", 10),
    ]
    assert {word for word, _ in EVIDENCE.common} == {"opi", "nail", "lacquer"}
    first, second = template_sentences(EVIDENCE)
    assert "“OPI Nail Lacquer Blue” (60 %)" in first
    assert "“opi”, “nail”, “lacquer”" in second
    nothing = Evidence.of("x", 9, [("a", -1.0)], {})
    assert template_sentences(nothing) == [
        "No item of the history alone raised the score of “x”; it has rank 9 of the whole catalogue."
    ]
