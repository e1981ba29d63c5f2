"""Instruction records: the template, and what is wrong with bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import DataError
from seqloom.llm.plugins.alpaca import RESPONSE, prompt_before_input, read_records

PLAIN = {"instruction": "Name a colour.", "input": "", "output": "Red."}
WITH_INPUT = {"instruction": "Add.", "input": "2 and 3", "output": "5"}


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Any]:
    def write(text: Any) -> Path:
        path = tmp_path / "records.json"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_template_is_that_of_alpaca(file: Callable[..., Any]) -> None:
    plain, with_input = read_records(file(json.dumps([PLAIN, WITH_INPUT]))).good
    assert plain.prompt == (
        "Below is an instruction that describes a task. Write a response that appropriately completes "
        "the request.\n\n### Instruction:\nName a colour.\n\n### Response:\n"
    )
    assert with_input.prompt == prompt_before_input("Add.") + "2 and 3" + RESPONSE
    assert "### Input:\n2 and 3\n\n### Response:\n" in with_input.prompt
    assert (plain.response, with_input.response) == ("Red.", "5")


def test_lines_are_the_same_as_an_array(file: Callable[..., Any]) -> None:
    array = read_records(file(json.dumps([PLAIN, WITH_INPUT], indent=2)))
    lines = read_records(file(f"{json.dumps(PLAIN)}\n\n{json.dumps(WITH_INPUT)}\n"))
    printed = [[(r.prompt, r.response) for r in actual.good] for actual in (array, lines)]
    assert printed[0] == printed[1]
    assert [record.line for record in lines.good] == [1, 3]
    assert [record.line for record in array.good] == [2, 7]


def test_an_instruction_with_braces_is_kept(file: Callable[..., Any]) -> None:
    (record,) = read_records(file(json.dumps([{**PLAIN, "instruction": "Use {input} {x}."}]))).good
    assert "Use {input} {x}." in record.prompt


BAD = ['{"instruction": "x"}', "[1]", "no json", json.dumps({**PLAIN, "output": " "})]


def test_bad_lines_are_named(file: Callable[..., Any]) -> None:
    path = file("\n".join([json.dumps(PLAIN), *BAD]))
    with pytest.raises(DataError) as caught:
        read_records(path)
    message = str(caught.value)
    assert "4 bad record(s)" in message
    assert "line 2: 'output' is missing" in message
    assert "line 3: a list" in message
    assert "line 4: no valid JSON" in message
    assert "--skip-bad" in message


def test_bad_lines_are_skipped_on_request(file: Callable[..., Any]) -> None:
    actual = read_records(file("\n".join([json.dumps(PLAIN), *BAD])), skip_bad=True)
    assert len(actual.good) == 1
    assert [entry.split(":")[0] for entry in actual.bad] == ["line 2", "line 3", "line 4", "line 5"]


def test_bad_records_of_an_array_are_named_by_line(file: Callable[..., Any]) -> None:
    path = file('[\n  {"instruction": "a",\n   "output": "b"},\n  {"instruction": "c"}\n]')
    with pytest.raises(DataError, match=r"1 bad record\(s\): line 4: 'output'"):
        read_records(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no record"),
        ("[]", "no record"),
        ('[{"instruction": "a", "output": "b"}', "not valid JSON from line"),
        ('[{"instruction": "a",,}]', "not valid JSON from line 1"),
    ],
)
def test_files_that_cannot_be_used(file: Callable[..., Any], text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_records(file(text), skip_bad=True)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_records(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_records(tmp_path / "bytes.json")
