"""The package as its users meet it: metadata, public names, the lock."""

import ast
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


def locked(file: str) -> dict[str, str]:
    """What stands after each project's name in a lock, up to its hashes."""
    text = (ROOT / file).read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {normal(line.partition("==")[0]): line.partition("==")[2] for line in lines}


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
    command = [str(Path(sys.executable).parent / "seqloom"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"seqloom {seqloom.__version__}\n"


@pytest.mark.parametrize("name", seqloom.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(seqloom, name) is not None
    assert name in dir(seqloom)


def test_type_checkers_see_the_names_that_are_resolved() -> None:
    """`__all__`, the imports for type checkers and the table of homes agree."""
    source = (ROOT / "src/seqloom/__init__.py").read_text(encoding="utf-8")
    typed = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seqloom.")
        for alias in node.names
    }
    assert typed | {"load_dataset"} == set(seqloom.__all__)
    assert set(seqloom._ADDRESSES) | {"__version__"} == set(seqloom.__all__)


def test_the_import_loads_no_model_library() -> None:
    code = "import sys, seqloom; print({'torch', 'transformers', 'polars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_public_names_are_the_real_ones() -> None:
    assert seqloom.SeqloomError is SeqloomError
    assert seqloom.load_dataset == Dataset.load


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'evalaute'"):
        _ = seqloom.evalaute


@pytest.mark.parametrize(
    "file",
    [
        "requirements.lock",
        "requirements-docs.lock",
        "requirements-extras.lock",
        "deploy/requirements.lock",
    ],
)
def test_a_lock_holds_versions_and_hashes_and_nothing_else(file: str) -> None:
    """pip checks every file and reads the lock anywhere: no local builds, paths or hosts."""
    pin = r"[0-9][A-Za-z0-9.]*( ; [a-z_]+ [^;@/]*?)?( +--hash=sha256:[0-9a-f]{64})+"
    actual = locked(file)
    assert len(actual) > 50
    for name, rest in actual.items():
        assert re.fullmatch(pin, rest.rstrip()), name
        assert not re.match(r"torch$|triton$|nvidia-|cuda-", name), name


def test_torch_is_pinned_apart_and_without_a_hash() -> None:
    """Its builds are different files, and each machine has its own source for one."""
    ((name, version),) = locked("requirements-torch.lock").items()
    assert name == "torch"
    assert re.fullmatch(r"[0-9.]+", version)


def test_the_lock_holds_every_dependency() -> None:
    expected = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    names = locked("requirements.lock").keys() | {"torch"}
    assert {normal(re.split(r"[<>=\[ ]", line)[0]) for line in expected} <= names


def test_the_image_runs_what_was_tested() -> None:
    whole = locked("requirements.lock")
    assert all(whole[name] == rest for name, rest in locked("deploy/requirements.lock").items())


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("requirements-docs.lock", ["docs"]),
        ("requirements-extras.lock", ["mlflow", "wandb", "qdrant", "lancedb", "examples"]),
    ],
)
def test_what_is_added_fits_what_was_tested(file: str, extras: list[str]) -> None:
    whole, added = locked("requirements.lock"), locked(file)
    for name in added.keys() & whole.keys():
        assert added[name].split()[0] == whole[name].split()[0], name
    expected = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    assert {normal(re.split(r"[<>=\[ ]", line)[0]) for line in expected} <= added.keys()


def test_a_lock_has_files_for_every_platform() -> None:
    """Hashes of all wheels of a version, not those of the machine that made the lock."""
    assert all(
        locked("requirements.lock")[name].count("sha256:") > 10 for name in ("numpy", "scipy")
    )


def test_the_release_builds_and_tries_the_archives() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert "scripts/check_wheel.py --dist dist" in text
    assert "id-token: write" in text
    assert not re.search(r"password|api-token|secrets\.", text)


@pytest.mark.slow
def test_the_wheel_works_in_a_new_environment(tmp_path: Path) -> None:
    """Builds it, installs it with the extra `serve` from the package index, and asks a server."""
    command: list[str | Path] = [
        sys.executable,
        ROOT / "scripts/check_wheel.py",
        "--dist",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("no package index")
    assert done.returncode == 0, done.stderr
    assert "work in a new environment" in done.stdout


def test_the_changelog_names_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{seqloom.__version__}]" in text or "## [Unreleased]" in text


@pytest.mark.parametrize(
    "name", ["transformers", "sentence-transformers", "peft", "accelerate", "gguf", "safetensors"]
)
def test_what_reads_model_folders_is_not_older_than_what_was_tested(name: str) -> None:
    (expected,) = (line for line in PROJECT["dependencies"] if line.startswith(f"{name}>="))
    tested = locked("requirements.lock")[name].split()[0].split(".")[:2]
    assert expected.partition(">=")[2].split(".") == tested
