"""Reads a file of user ids."""

from __future__ import annotations

import sys
from pathlib import Path

from seqloom.core.errors import DataError
from seqloom.core.text_files import decode_text, read_text


def read_users(path: Path) -> list[str]:
    """Read user ids, one a line; blank lines are skipped; `-` is standard input.

    Blanks around an id belong to it, as in `prepare`.

    Raises:
        DataError: the file is missing, is no text or holds no id.
    """
    if str(path) == "-":
        text = decode_text(sys.stdin.buffer.read(), "standard input")
    else:
        text = read_text(path, "user file")
    users = [line for line in text.split("\n") if line.strip()]
    if not users:
        raise DataError(f"user file {path} holds no user id; write one user id a line")
    return users
