"""The search for items forgives accents, case, order and typing errors, at a known cost."""

from __future__ import annotations

import time

import numpy as np
import pytest

from seqloom.serving.engine.search import TextIndex, fold, words_of

TITLES = [
    "Café au lait, Crème brûlée",
    "Toy Story (1995)",
    "The Lord of the Rings",
    "Straße und Brücke",
    "🌵 cactus mug",
    "桜の木",
    "wristwatch for children",
    "Wrist rest",
]
IDS = ["B00-17", "toy1", "i3", "I4", "emoji", "ja", "w1", "w2"]


@pytest.fixture(scope="module")
def index() -> TextIndex:
    return TextIndex(TITLES, IDS)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("cafe", [0]),
        ("CRÈME", [0]),
        ("brulee lait", [0]),
        ("story toy", [1]),
        ("rings lord", [2]),
        ("ring", [2]),
        ("strasse", [3]),
        ("BRUCKE", [3]),
        ("🌵", [4]),
        ("木", [5]),
        ("b00-17", [0]),
        ("TOY1", [1]),
        ("wristwach", [6]),  # one letter missing
        ("wirstwatch", [6]),  # two exchanged
        ("chidlren", [6]),
        ("catcus", [4]),
        ("cactos mug", [4]),
        ("zzzzz", []),
        ("", []),
        ("   ", []),
        ("!!", []),
    ],
)
def test_a_query_finds_what_is_meant(index: TextIndex, query: str, rows: list[int]) -> None:
    assert index.find(query) == rows


def test_whole_words_come_before_beginnings_and_popular_rows_first(index: TextIndex) -> None:
    assert index.find("wrist") == [7, 6]
    both = TextIndex(["red pen", "red ink", "red"])
    assert both.find("red", np.asarray([1, 5, 3])) == [1, 2, 0]


def test_a_whole_word_is_a_better_correction_than_a_beginning() -> None:
    index = TextIndex(["Postino, Il", "Postman, The"])
    assert index.find("postmn", np.asarray([9, 1])) == [1, 0]


def test_most_words_suffice_where_no_row_has_all(index: TextIndex) -> None:
    assert index.find("lord rings hobbit") == [2]
    assert index.find("lord hobbit") == []


def test_an_exact_beginning_is_never_corrected() -> None:
    index = TextIndex(["tent", "tents", "dent"])
    assert sorted(index.find("tent")) == [0, 1]


def test_folding_keeps_apart_what_differs() -> None:
    assert fold("Ærø É") == fold("ærø e")
    assert words_of("AC/DC live_2") == ["ac", "dc", "live", "2"]


def test_a_misspelt_word_costs_little_in_a_large_catalogue() -> None:
    draw = np.random.default_rng(0)
    letters = np.asarray(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(draw.choice(letters, 8)) for _ in range(20_000)]
    index = TextIndex([*words, "wristwatch"])
    index.find("anything")  # builds the table of letters
    began = time.perf_counter()
    assert index.find("wirstwatch") == [20_000]
    assert time.perf_counter() - began < 1.0
