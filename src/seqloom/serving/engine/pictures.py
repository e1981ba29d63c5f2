"""Addresses of item pictures, from a list of allowed origins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

_NAME = re.compile(r"image|img|imurl|picture|photo|thumb", re.IGNORECASE)
_ADDRESS = re.compile(r"https://[^\s'\"\\\],<>|;]{1,2000}")
_ORIGIN = re.compile(r"https://[a-z0-9.-]+(:[0-9]{1,5})?")


def check_origin(origin: str) -> str:
    """Returns an origin in lower case without a slash at its end.

    Raises:
        ValueError: it is not `https://HOST` or `https://HOST:PORT`.
    """
    plain = origin.strip().lower().rstrip("/")
    if not _ORIGIN.fullmatch(plain):
        raise ValueError(f"{origin!r} is no origin such as https://images.example.com")
    return plain


class Pictures:
    """Chooses the picture of an item among its attributes. Without origins, no item has one."""

    def __init__(self, origins: Sequence[str] = ()) -> None:
        self.origins = tuple(origins)

    def find(self, attributes: Mapping[str, str]) -> str | None:
        """Returns the first address in a picture column whose origin is allowed."""
        if not self.origins:
            return None
        for name, text in attributes.items():
            if _NAME.search(name):
                for address in _ADDRESS.findall(text[:4000]):
                    if _origin(address) in self.origins:
                        return address
        return None


def is_picture_column(name: str) -> bool:
    """Returns whether a column's name is that of pictures."""
    return _NAME.search(name) is not None


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.lower()}"
