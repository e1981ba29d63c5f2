"""The pages of the documentation, and the commands that they show."""

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


def pages() -> list[Path]:
    """Returns every page in `docs/`."""
    return sorted((ROOT / "docs").rglob("*.md"))


def page(name: str) -> str:
    """Reads a page in `docs/`."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Returns language and content of every fenced code block."""
    return re.findall(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Returns every call of a seqloom command in the code blocks, without synopses (`[--option]`)."""
    code = "\n".join(block for _, block in code_blocks(text)).replace("\\\n", " ")
    lines = re.findall(r"^ *(seqloom [a-z].*)$", code, flags=re.MULTILINE)
    calls = [call for line in lines for call in line.split(" && ")]
    return [call for call in calls if call.startswith("seqloom ") and " [-" not in call]


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """Parses a call into the command's name and its parameters, with typer's errors."""
    _, name, *rest = shlex.split(line, comments=True)
    return name, COMMANDS_BY_NAME[name].make_context(name, rest).params
