"""Escape characters of CSV files.

CSV parsers drop an escape character before any character, so `C:\\dir` would become `C:dir`. Here an
escape character counts only before a quote, the separator or itself; anywhere else it is doubled, so
that every parser keeps it.
"""

from __future__ import annotations

import re
from typing import IO

from seqloom.core.text_files import map_stream


class EscapeNormalizer:
    """Doubles the escape characters that escape nothing."""

    def __init__(self, escape: str, separator: str) -> None:
        mark, special = re.escape(escape), re.escape(f'"{separator}{escape}')
        self._text = re.compile(f"{mark}([{special}])?")
        self._bytes = re.compile(self._text.pattern.encode())
        self._lone, self._lone_bytes = escape * 2, (escape * 2).encode()

    def line(self, text: str) -> str:
        """Normalizes one line."""
        return self._text.sub(lambda match: match[0] if match[1] else self._lone, text)

    def data(self, block: bytes) -> bytes:
        """Normalizes bytes that do not end in the middle of an escape."""
        return self._bytes.sub(lambda match: match[0] if match[1] else self._lone_bytes, block)


def normalize_stream(source: IO[bytes], normalizer: EscapeNormalizer) -> IO[bytes]:
    """Wraps a file so that its escape characters are normalized; closing it closes `source`."""
    rest = b""

    def normalize(block: bytes, final: bool) -> bytes:
        nonlocal rest
        whole = rest + block
        # A line end is never part of an escape, so blocks of whole lines can be normalized alone.
        cut = len(whole) if final else whole.rfind(b"\n") + 1
        rest = whole[cut:]
        return normalizer.data(whole[:cut])

    return map_stream(source, normalize)
