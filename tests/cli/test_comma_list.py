"""Lists in one option value."""

from __future__ import annotations

import pytest

from seqloom.cli.comma_list import comma_list
from seqloom.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"a,b",c', ["a,b", "c"]),
        ('c , "a,b"', ["c", "a,b"]),
        ('"say ""x""", 12" disk,', ['say "x"', '12" disk']),
        ('" kept ",  stripped ', [" kept ", "stripped"]),
        ("a,,b", ["a", "b"]),
    ],
)
def test_an_entry_with_a_comma_stands_in_quotes(text: str, expected: list[str]) -> None:
    assert comma_list(text, "--history") == expected


@pytest.mark.parametrize("text", ['"a,b', 'x,"a"b', '"a""'])
def test_a_list_with_an_open_quote_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r'--history: the quote before .* as "a,b"'):
        comma_list(text, "--history")
