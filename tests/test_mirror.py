"""The tests mirror the package: where a test stands says what it tests."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/seqloom"
TESTS = ROOT / "tests"
APART = {"contracts", "support", "docs", "benchmarks", "attacks"}
"""Folders of tests that are about no single module: contracts that every system or every command keeps, what
the documentation shows, the benchmarks, and attacks on whole processes."""
LONG = 150
"""Lines from which on a module has a test file of its own name."""

MIRRORED = sorted(
    path
    for path in TESTS.rglob("test_*.py")
    if path.parent != TESTS and path.relative_to(TESTS).parts[0] not in APART
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules_in(folder: Path) -> set[str]:
    """Modules and packages of a package's folder."""
    files = {file.stem for file in folder.glob("*.py") if file.stem != "__init__"}
    return files | {file.parent.name for file in folder.glob("*/__init__.py")}


@pytest.mark.parametrize("path", MIRRORED, ids=name_of)
def test_a_test_file_is_named_after_what_it_tests(path: Path) -> None:
    """`tests/data/test_split.py` or `test_split_by_time.py` test `seqloom/data/split.py`."""
    folder = PACKAGE / path.parent.relative_to(TESTS)
    assert folder.is_dir(), f"there is no package {folder.relative_to(ROOT)}"
    subject = path.stem.removeprefix("test_")
    names = modules_in(folder) | {folder.name}
    assert any(subject == name or subject.startswith(f"{name}_") for name in names), sorted(names)
