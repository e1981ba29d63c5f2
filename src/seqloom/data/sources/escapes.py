"""Escape characters of CSV files.

CSV parsers drop an escape character before any character, so `C:\\dir` would become `C:dir`. Here an
escape character counts only before a quote, the separator or itself; anywhere else it is doubled, so
that every parser keeps it.
"""

from __future__ import annotations

import io
import re
from typing import IO, Any

_CHUNK = 1 << 20


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
    return io.BufferedReader(_NormalizedStream(source, normalizer), _CHUNK)


class _NormalizedStream(io.RawIOBase):
    def __init__(self, source: IO[bytes], normalizer: EscapeNormalizer) -> None:
        self._source, self._normalizer = source, normalizer
        self._ready = b""
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            data = self._source.read(_CHUNK)
            self._ended = not data
            whole = self._rest + data
            # A line end is never part of an escape, so blocks of whole lines can be normalized alone.
            cut = len(whole) if self._ended else whole.rfind(b"\n") + 1
            self._rest = whole[cut:]
            self._ready = self._normalizer.data(whole[:cut])
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._source.close()
        super().close()
