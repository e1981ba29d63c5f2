"""Reading a file of user ids."""

from __future__ import annotations

import sys
from pathlib import Path

from seqloom.core.errors import DataError


def read_users(path: Path) -> list[str]:
    """User ids, one a line; empty lines are no ids; `-` is standard input.

    Raises:
        DataError: the file is missing, is no UTF-8 text or holds no id.
    """
    if str(path) == "-":
        lines = sys.stdin.read().splitlines()
    else:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise DataError(f"user file {path} does not exist; write one user id a line") from None
        except UnicodeDecodeError as error:
            raise DataError(f"user file {path} is not UTF-8 text: {error}") from None
    users = [line.strip() for line in lines if line.strip()]
    if not users:
        raise DataError(f"user file {path} holds no user id; write one user id a line")
    return users
