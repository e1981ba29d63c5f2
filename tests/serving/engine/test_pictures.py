"""Pictures come from allowed origins alone."""

from __future__ import annotations

import pytest

from seqloom.serving.engine.pictures import Pictures, check_origin

OWN = "https://pics.example.com"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{OWN}/a.png", f"{OWN}/a.png"),
        (f"['{OWN}/a.png', '{OWN}/b.png']", f"{OWN}/a.png"),
        ("https://other.example.com/a.png", None),
        ("https://pics.example.com.evil.org/a.png", None),
        ("https://user@pics.example.com/a.png", None),
        ("http://pics.example.com/a.png", None),
        ("javascript:alert(1)", None),
        ("", None),
    ],
)
def test_only_addresses_of_allowed_origins_are_taken(text: str, found: str | None) -> None:
    assert Pictures((OWN,)).find({"image_url": text}) == found


def test_other_columns_and_servers_without_origins_have_no_pictures() -> None:
    assert Pictures((OWN,)).find({"description": f"{OWN}/a.png"}) is None
    assert Pictures().find({"image": f"{OWN}/a.png"}) is None


@pytest.mark.parametrize("origin", ["http://a.example", "https://a/b", "*", "https://a b", "data:"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        check_origin(origin)


def test_an_origin_is_written_in_one_way() -> None:
    assert check_origin("https://Pics.Example.com/") == OWN
