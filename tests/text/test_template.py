from __future__ import annotations

import pytest

from seqloom.core.errors import ConfigError
from seqloom.text.template import Template


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        (
            "Title: {a}. Brand: {b}. Kind: {c}.",
            {"a": "A", "b": "B", "c": "C"},
            "Title: A. Brand: B. Kind: C.",
        ),
        ("Title: {a}. Brand: {b}. Kind: {c}.", {"a": "A", "c": "C"}, "Title: A. Kind: C."),
        ("Title: {a}, Brand: {b}", {"a": "A"}, "Title: A"),
        ("Title: {a}, Brand: {b}", {"b": "B"}, "Brand: B"),
        ("{a} by {b}", {"a": "A"}, "A"),
        ("{a} ({b})", {"a": "A"}, "A"),
        ("title: {a}\nbrand: {b}\nkind: {c}", {"a": "A", "c": "C"}, "title: A\nkind: C"),
        ("An item. It is {a}, made by {b}, please.", {"a": "A"}, "An item. It is A, please."),
        ("Title: {a}. Brand: {b}", {"a": "Ends.", "b": "B"}, "Title: Ends. Brand: B"),
        ("{{x}}, {a}", {"a": " A \n B "}, "{x}, A B"),
        ("Title: {a}", {"a": "  "}, ""),
        ("{a:b}", {"a:b": "A"}, "A"),
    ],
)
def test_a_missing_value_takes_its_label_with_it(
    template: str, values: dict[str, str], expected: str
) -> None:
    assert Template(template).render(values) == expected


@pytest.mark.parametrize("template", ["{title", "title}", "{}", "a { b"])
def test_a_broken_template_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="brace"):
        Template(template)


def test_an_unknown_placeholder_names_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"\{brnd\}.*\{title\}, \{brand\}"):
        Template("{brnd}").check(["title", "brand"], "the item columns are")
    with pytest.raises(ConfigError, match="no placeholder"):
        Template("always the same").check(["title"], "the item columns are")
