"""Configuration models as flat lists of keys, and the command that shows them."""

import json
from typing import Annotated, Literal

import pytest
from pydantic import Field

from seqloom.cli.config_docs import config_keys
from seqloom.cli.main import run
from seqloom.core.config import Config


class A(Config):
    kind: Literal["a"] = "a"
    """Which."""
    width: int = 8
    """Width of a."""


class B(Config):
    kind: Literal["b"] = "b"
    width: int = 9
    depth: float | None = None
    """Only b
    has it."""


class Whole(Config):
    name: str
    """Required."""
    part: Annotated[A | B, Field(discriminator="kind")] = Field(default_factory=B)
    sizes: tuple[int, ...] = (1, 2)
    mode: Literal["x", "y"] = "x"


def test_keys_are_flat_and_documented() -> None:
    rows = {row["key"]: row for row in config_keys(Whole)}
    assert list(rows) == ["name", "part.kind", "part.width", "part.depth", "sizes", "mode"]
    assert rows["name"]["default"] == "(required)"
    assert rows["part.kind"]["type"] == "b | a"
    assert rows["part.width"]["default"] == 9, "the default alternative's own default"
    assert rows["part.depth"] == {
        "key": "part.depth",
        "type": "float | null",
        "default": None,
        "description": "Only b has it.",
    }
    assert rows["sizes"]["type"] == "list of int"
    assert rows["mode"]["type"] == "x | y"


def test_systems_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("seqloom.systems.registry")
    assert run(["systems", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "sasrec" in [row["system"] for row in document]
    for row in document:
        assert row["summary"]
        assert "seed" in [key["key"] for key in row["config"]]
        assert all(key["description"] for key in row["config"]), row["system"]


def test_one_system_shows_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("seqloom.systems.registry")
    assert run(["systems", "sasrec"]) == 0
    assert "learning_rate" in capsys.readouterr().out


def test_an_unknown_system_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("seqloom.systems.registry")
    assert run(["systems", "sasrek"]) == 2
    assert "sasrec" in capsys.readouterr().err
