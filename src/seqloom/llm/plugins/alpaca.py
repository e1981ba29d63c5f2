"""The Alpaca prompt template, and instruction records in the Alpaca format.

Source: Taori et al., Stanford Alpaca, 2023; E4SRec, section 3.2, uses it in both stages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.core.errors import DataError
from seqloom.core.text_files import read_text

_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n"
)
_PLAIN = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}"
)
RESPONSE = "\n\n### Response:\n"
_SHOWN = 5


@dataclass(frozen=True)
class Record:
    """One instruction with its response."""

    prompt: str
    response: str
    line: int = 0
    """Line in the file, from 1."""


@dataclass(frozen=True)
class Records:
    """The valid records of a file in order, and the problems of the others."""

    good: list[Record]
    bad: list[str]
    """The problem of each record that was left out, with its line."""


def prompt_before_input(instruction: str) -> str:
    """Renders the template up to the input."""
    return _WITH_INPUT.replace("{instruction}", instruction)


def read_records(path: str | Path, *, skip_bad: bool = False) -> Records:
    """Reads Alpaca records (`instruction`, `input`, `output`) from a JSON array or from JSON lines.

    Raises:
        DataError: the file is missing, not UTF-8 or not JSON; it holds no valid record; or, without
            `skip_bad`, a record is invalid: the message names the lines.
    """
    path = Path(path)
    text = read_text(path, "record file")
    entries = _array(text, path) if text.lstrip().startswith("[") else _lines(text)
    good: list[Record] = []
    bad: list[str] = []
    for line, value in entries:
        problem = _problem(value)
        if problem:
            bad.append(f"line {line}: {problem}")
        else:
            good.append(_record(value, line))
    if bad and not skip_bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DataError(
            f"{path} has {len(bad)} bad record(s): {'; '.join(bad[:_SHOWN])}{more}. Correct them, or "
            "ask to leave them out with --skip-bad"
        )
    if not good:
        raise DataError(f"{path} holds no record with an instruction and an output")
    return Records(good, bad)


def _array(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Yields (first line, value) of each element of a JSON array."""
    decoder = json.JSONDecoder()
    position = text.index("[") + 1
    line, counted = 1, 0  # line number at the place up to which newlines are counted
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        line, counted = line + text.count("\n", counted, position), position
        if position < len(text) and text[position] == "]":
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path} is not valid JSON from line {line} on ({error.msg} at line {error.lineno}); "
                "nothing after it can be read"
            ) from None
        yield line, value


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    """Yields (line, value) of each non-blank line; the value of an invalid line is its ValueError."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, error


def _problem(value: Any) -> str | None:
    """Returns why a value is not a valid record, or None."""
    if isinstance(value, json.JSONDecodeError):
        return f"no valid JSON ({value.msg})"
    if not isinstance(value, dict):
        return f"a {type(value).__name__} in place of an object"
    for key in ("instruction", "output"):
        if not isinstance(value.get(key), str) or not value[key].strip():
            return f"{key!r} is missing, empty or no text"
    if not isinstance(value.get("input") or "", str):
        return "'input' is no text"
    return None


def _record(value: dict[str, str], line: int) -> Record:
    given = (value.get("input") or "").strip()
    instruction = value["instruction"].strip()
    plain = _PLAIN.replace("{instruction}", instruction)
    prompt = prompt_before_input(instruction) + given if given else plain
    return Record(prompt + RESPONSE, value["output"].strip(), line)
