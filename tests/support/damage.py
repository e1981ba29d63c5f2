"""Damages files as disks, copies and people do, and checks what readers make of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seqloom.core.errors import SeqloomError


def damages(data: bytes, others: list[bytes], flips: int, seed: str) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of each damaged form of a file with the content `data`."""
    draw = random.Random(seed)
    yield "empty", b""
    yield "cut in half", data[: len(data) // 2]
    yield "cut by a byte", data[:-1]
    yield "grown by a byte", data + b"\0"
    yield "garbage", draw.randbytes(len(data))
    yield "zeros", bytes(len(data))
    yield "nested brackets", b"[" * 5000
    yield "a list", b"[1, 2]\n"
    yield "another object", b'{"format": "other"}\n'
    yield "no UTF-8", b'{"a": "\xff\xfe"}\n'
    for number, other in enumerate(others):
        if other != data:
            yield f"another file ({number})", other
    for _ in range(flips if data else 0):
        place, bit = draw.randrange(len(data)), draw.randrange(8)
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} flipped", bytes(flipped)


def faults(
    files: list[Path],
    use: Callable[[], Any],
    *,
    flips: int,
    others: list[bytes],
    may_be_missing: tuple[str, ...] = (),
) -> list[str]:
    """What goes wrong when each file is damaged in turn and then used: none, where every use either gives
    what it gave before or raises an error of seqloom that names a path."""
    expected = use()
    assert use() == expected
    actual = []
    for file in files:
        data = file.read_bytes()
        for name, content in damages(data, others, flips, file.name):
            file.write_bytes(content)
            actual += [f"{file.name}, {name}: {fault}" for fault in _faults_of(use, expected, file)]
        if file.name not in may_be_missing:
            file.unlink()
            actual += [
                f"{file.name}, missing: {fault}" for fault in _faults_of(use, expected, file)
            ]
        file.write_bytes(data)
    assert use() == expected
    return actual


def _faults_of(use: Callable[[], Any], expected: Any, file: Path) -> Iterator[str]:
    try:
        result = use()
    except SeqloomError as error:
        if not any(str(folder) in str(error) for folder in (file.parent, file.parents[2])):
            yield f"the message names no path: {error}"
    except Exception as error:
        yield f"{type(error).__name__}: {error}"
    else:
        if result != expected:
            yield "another result, in silence"
