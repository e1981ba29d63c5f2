"""The package as its users meet it: metadata, public names, the lock."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import seqloom
from seqloom.core.errors import SeqloomError
from seqloom.data.store import Dataset

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_metadata() -> None:
    assert metadata.version("seqloom") == seqloom.__version__
    assert metadata.metadata("seqloom")["License-Expression"] == "Apache-2.0"
    (entry,) = (e for e in metadata.distribution("seqloom").entry_points if e.name == "seqloom")
    assert entry.value == "seqloom.cli.main:main"
    assert (ROOT / "src/seqloom/py.typed").exists()
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_entry_point_runs() -> None:
    command = [Path(sys.executable).parent / "seqloom", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"seqloom {seqloom.__version__}\n"


@pytest.mark.parametrize("name", seqloom.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(seqloom, name) is not None
    assert name in dir(seqloom)


def test_public_names_are_the_real_ones() -> None:
    assert seqloom.SeqloomError is SeqloomError
    assert seqloom.load_dataset == Dataset.load


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'evalaute'"):
        _ = seqloom.evalaute


def test_the_lock_pins_versions_and_nothing_else() -> None:
    """pip reads the file anywhere: no local builds, paths, hosts or hashes."""
    for line in LOCK:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_torch_is_first_in_the_lock() -> None:
    assert LOCK[0].startswith("torch==")


def test_the_lock_holds_every_dependency() -> None:
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    locked = {normal(line.partition("==")[0]) for line in LOCK}
    assert {normal(re.split(r"[<>=\[ ]", line)[0]) for line in wanted} <= locked


def test_the_changelog_names_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{seqloom.__version__}]" in text or "## [Unreleased]" in text


@pytest.mark.parametrize(
    "name", ["transformers", "sentence-transformers", "peft", "accelerate", "gguf", "safetensors"]
)
def test_what_reads_model_folders_is_not_older_than_what_was_tested(name: str) -> None:
    (wanted,) = (line for line in PROJECT["dependencies"] if line.startswith(f"{name}>="))
    (locked,) = (line for line in LOCK if line.startswith(f"{name}=="))
    tested = locked.partition("==")[2].split(".")[:2]
    assert wanted.partition(">=")[2].split(".") == tested
