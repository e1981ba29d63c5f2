"""The commands that a page of the documentation shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from seqloom.cli.main import build_group

ROOT = Path(__file__).resolve().parents[2]
COMMANDS_BY_NAME: dict[str, Any] = {
    name: command.loaded for name, command in build_group().lazy_commands.items()
}


def page(name: str) -> str:
    """The text of a page in `docs/`."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """Every line that calls seqloom."""
    return re.findall(r"^seqloom .*$", text, flags=re.MULTILINE)


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The command's name and its parameters; typer's error where it has no such option."""
    _, name, *rest = shlex.split(line)
    return name, COMMANDS_BY_NAME[name].make_context(name, rest).params
