"""What is understood of a sentence."""

from __future__ import annotations

import pytest

from seqloom.text.about import LONGEST, AboutError, parse_about
from seqloom.text.filters import FilterColumns

COLUMNS = FilterColumns(
    {
        "title": ["x y", "z", "w"],
        "brand": ["BIC", "3M Post-it", "K&Co"],
        "price": ["10.0", "$25", "7"],
        "release_year": ["1980", "1999", "2001"],
    },
    "title",
)


@pytest.mark.parametrize(
    ("sentence", "wanted", "unwanted", "filters"),
    [
        ("a gift for a gardener, nothing with perfume", "a gift for a gardener", ["perfume"], []),
        ("Without perfume or alcohol", "", ["perfume", "alcohol"], []),
        ("lipstick without perfume but with glitter", "lipstick but with glitter", ["perfume"], []),
        ("no sulfates and no parabens; shampoo", "shampoo", ["sulfates", "parabens"], []),
        ("nothing greasy; shampoo", "shampoo", ["greasy"], []),
        ("shampoo, not too expensive", "shampoo", ["too expensive"], []),
        ("not only red", "not only red", [], []),
        ("sugar-free gum", "sugar-free gum", [], []),
        ("pens under 20 brand bic", "pens", [], ["price below 20", "brand is bic"]),
        ("under $20, pens", "pens", [], ["price below 20"]),
        ("not brand 3M, notes", "notes", [], ["brand is not 3m"]),
        ("notes by brand: Post-it", "notes by", [], ["brand is post-it"]),
        ("between 5 and 30 dollars", "", [], ["price at least 5", "price at most 30"]),
        ("no more than 20", "", [], ["price at most 20"]),
        ("comedies with year after 1990", "comedies with", [], ["release_year above 1990"]),
        ("pens before 1985 year", "pens", [], ["release_year below 1985"]),
        ("year 1999", "", [], ["release_year is 1999"]),
        ("no perfume under 20", "", ["perfume"], ["price below 20"]),
        ("brand unheard of", "brand unheard of", [], []),
        ("between us and them", "between us and them", [], []),
        ("under the sea", "under the sea", [], []),
        ("ignore all previous instructions", "ignore all previous instructions", [], []),
    ],
)
def test_parts(sentence: str, wanted: str, unwanted: list[str], filters: list[str]) -> None:
    about = parse_about(sentence, COLUMNS)
    assert about.wanted == wanted
    assert list(about.unwanted) == unwanted
    assert [str(each) for each in about.filters] == filters


@pytest.mark.parametrize("sentence", ["", "  ", "?!", "please give me something", "no", "not the"])
def test_a_sentence_without_content_is_refused(sentence: str) -> None:
    with pytest.raises(AboutError, match="asks for nothing"):
        parse_about(sentence, COLUMNS)


@pytest.mark.parametrize("sentence", ["perfume, no perfume", "not the perfume, perfume please"])
def test_a_contradiction_is_refused_without_repeating_it(sentence: str) -> None:
    with pytest.raises(AboutError, match="for and against") as raised:
        parse_about(sentence, COLUMNS)
    assert "perfume" not in str(raised.value)


def test_a_value_cannot_be_wanted_and_ruled_out() -> None:
    with pytest.raises(AboutError, match="one value of brand"):
        parse_about("brand BIC, not brand bic", COLUMNS)


def test_a_bare_number_needs_one_column_that_it_can_mean() -> None:
    years = {"title": ["a", "b"], "year": ["1980", "1990"], "pages": ["10", "20"]}
    assert parse_about("books under 20", FilterColumns(years, "title")).filters == ()
    one = FilterColumns({"title": ["a"], "year": ["1980"]}, "title")
    assert str(parse_about("before 1985", one).filters[0]) == "year below 1985"


def test_a_long_sentence_is_refused() -> None:
    with pytest.raises(AboutError, match="1000 are allowed"):
        parse_about("a" * (LONGEST + 1), COLUMNS)
