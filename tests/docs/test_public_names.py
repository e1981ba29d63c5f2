"""README and pages import from `seqloom` alone, and use only names that it offers."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import seqloom
from support.documented_commands import ROOT, code_blocks, pages

PAGES = [ROOT / "README.md", *pages()]
DEEP = re.compile(r"\bfrom seqloom\.|\bimport seqloom\.|\bseqloom\.\w+\.\w+")
PACKAGES = {path.name.removesuffix(".py") for path in (ROOT / "src/seqloom").iterdir()}


def deep_imports(text: str) -> list[str]:
    """The dotted names in code blocks that reach into the package."""
    actual = [match for _, block in code_blocks(text) for match in DEEP.findall(block)]
    return [name for name in actual if name.split(".")[1] in PACKAGES or " " in name]


def public_names(block: str) -> Iterator[str]:
    """The names that a Python block takes from `seqloom`."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "seqloom":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "seqloom":
            yield node.attr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_code_block_imports_from_inside_the_package(page: Path) -> None:
    assert deep_imports(page.read_text(encoding="utf-8")) == []


def test_a_deep_import_is_detected() -> None:
    block = "```python\nfrom seqloom.data.store import Dataset\nseqloom.core.device.keep()\n```\n"
    assert len(deep_imports(block)) == 2
    assert (
        deep_imports("```python\nimport seqloom\nseqloom.load_run('a').recommend([])\n```\n") == []
    )


def test_the_python_blocks_use_public_names_alone() -> None:
    names = {
        name
        for page in PAGES
        for language, block in code_blocks(page.read_text(encoding="utf-8"))
        if language == "python"
        for name in public_names(block)
    }
    assert {"prepare", "train", "load_run", "PrepareOptions", "read_ranks"} <= names
    assert names <= set(seqloom.__all__)
