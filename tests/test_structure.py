"""The script that measures the package's structure sees circles of every kind."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def structure() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("structure", ROOT / "scripts/structure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def circle_in(structure: types.ModuleType, tmp_path: Path) -> Callable[..., Any]:
    """The circle in a package of two modules, `a` and `b`."""

    def find(a: str, b: str) -> list[str]:
        package = tmp_path / "toy"
        package.mkdir()
        for name, text in (("__init__", ""), ("a", a), ("b", b)):
            (package / f"{name}.py").write_text(text)
        trees = structure.modules(tmp_path, "toy")
        return structure.find_circle(structure.import_graph(trees))

    return find


@pytest.mark.parametrize(
    "back",
    [
        "from toy.a import A",
        "import toy.a",
        "from toy import a",
        "def late():\n    from toy.a import A",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.a import A",
    ],
)
def test_a_circle_is_seen_wherever_the_import_stands(
    circle_in: Callable[..., Any], back: str
) -> None:
    assert set(circle_in("from toy.b import B\nA = 1", back + "\nB = 1")) == {"toy.a", "toy.b"}


def test_one_way_is_no_circle(circle_in: Callable[..., Any]) -> None:
    assert circle_in("from toy.b import B", "B = 1") == []


def test_no_modules_of_the_package_import_each_other(structure: types.ModuleType) -> None:
    trees = structure.modules(structure.SOURCES)
    assert len(trees) > 300
    assert structure.find_circle(structure.import_graph(trees)) == []


def test_a_name_that_only_its_module_mentions_is_unused(
    structure: types.ModuleType, tmp_path: Path
) -> None:
    package = tmp_path / "toy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("def used(): ...\ndef unused(): ...\ndef _private(): ...\n")
    (package / "b.py").write_text("from toy.a import used\nX = used\n")
    assert structure.unused_names(structure.modules(tmp_path, "toy")) == ["toy.a.unused", "toy.b.X"]
