"""Runs are named by NAME=FOLDER, also where a folder's own name contains an equals sign."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqloom.cli.named_folders import named_folders
from seqloom.core.errors import ConfigError


def test_names_and_folders(tmp_path: Path) -> None:
    sweep = tmp_path / "SASRec,seed=42"
    sweep.mkdir()
    assert named_folders(["runs/a", "ours=runs/b", str(sweep), f"s={sweep}"]) == {
        "a": "runs/a",
        "ours": "runs/b",
        "SASRec,seed=42": str(sweep),
        "s": str(sweep),
    }
    assert named_folders(["runs/typo,seed=1"]) == {"typo,seed=1": "runs/typo,seed=1"}
    assert named_folders(["hf://org/name", "x=hf://org/name"]) == {
        "name": "hf://org/name",
        "x": "hf://org/name",
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a/run", "b/run"], "two runs are called 'run': a/run and b/run; name one of them"),
        (["x=a", "x=b"], "two runs are called 'x'"),
        (["=a"], "has no name before"),
    ],
)
def test_bad_names_are_errors(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        named_folders(texts)
