"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Returns `; did you mean 'sasrec'?` for the most similar allowed name, or an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
