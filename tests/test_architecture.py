"""Rules of the source tree that no linter checks."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MOST_LINES = 400
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_has_a_docstring(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "no module docstring"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_pickled(path: Path) -> None:
    """A run or a data set from someone else must not be able to execute code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert not imported & UNSAFE_MODULES
    assert "torch.load(" not in ast.unparse(tree)
    assert "torch.save(" not in ast.unparse(tree)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_tensors_are_written_in_one_place(path: Path) -> None:
    """`write_tensors` tells of a full disk and lets a service of another user read the file."""
    if path.name != "tensors.py":
        assert "save_file(" not in path.read_text(encoding="utf-8")


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that are loaded after `statement` in a fresh interpreter."""
    code = f"import sys; {statement}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stderr.split()}


HEAVY = {"torch", "transformers", "sentence_transformers", "peft", "polars", "pyarrow", "numpy"}


def test_importing_seqloom_is_light() -> None:
    loaded = loaded_by("import seqloom; dir(seqloom); seqloom.SeqloomError")
    assert "seqloom" in loaded
    assert not loaded & {*HEAVY, "pydantic", "typer", "rich"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([command, "--help"] for command in ("prepare", "embed", "train", "recommend", "serve")),
        ["--version"],
        ["systems"],
        ["systems", "e4srec"],
        ["systems", "--json"],
    ],
)
def test_help_is_light(arguments: list[str]) -> None:
    loaded = loaded_by(f"from seqloom.cli.main import run; assert run({arguments!r}) == 0")
    assert "typer" in loaded
    assert not loaded & {*HEAVY, "scipy", "matplotlib"}
