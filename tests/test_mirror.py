"""The tests mirror the package: where a test stands says what it tests."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/seqloom"
TESTS = ROOT / "tests"
APART = {"contracts", "support", "docs", "benchmarks", "attacks"}
"""Folders of tests that are about no single module: contracts that every system or every command keeps, what
the documentation shows, the benchmarks, and attacks on whole processes."""
LONG = 60
"""Lines of code from which on a module has tests of its own, or an entry in COVERED."""
COVERED = {
    # Through the commands, which all keep one contract.
    "cli/options.py": "contracts/test_command_contract.py",
    "cli/session.py": "contracts/test_command_contract.py",
    "pipelines/demo.py": "cli/commands/test_commands.py",
    # Triton's functions run through those of torch that call them.
    "nn/softmax_kernels.py": "nn/test_fused_softmax.py",
    # Interfaces: every implementation is held to them.
    "core/protocols.py": "contracts/test_system_contract.py",
    # Steps of one algorithm, which is tested against slow loops.
    "llm/generation/decoder_only.py": "llm/generation/test_networks.py",
    "llm/generation/encoder_decoder.py": "llm/generation/test_networks.py",
    "llm/generation/exact_scores.py": "llm/generation/test_beam.py",
    "llm/generation/text_model.py": "llm/generation/test_networks.py",
    "text/similarity.py": "text/test_neighbours.py",
    # Folders and files, written and read by their stages, damaged, cut off and from an older version.
    "core/storage.py": "core/test_files.py",
    "data/events.py": "attacks/test_damaged_files.py",
    "hub/endpoint.py": "text/encoders/test_endpoint.py",
    "llm/chat.py": "llm/reranking/test_reranker.py",
    "llm/explaining/evidence.py": "llm/explaining/test_explainer.py",
    "llm/reranking/judges.py": "llm/reranking/test_reranker.py",
    "serving/mcp/tools.py": "serving/mcp/test_server.py",
    "text/item_text.py": "runs/test_steering.py",
    "hub/run_repositories.py": "runs/test_published.py",
    "runs/model_card.py": "runs/test_published.py",
    "data/assemble.py": "data/sources/test_sources.py",
    "data/parts.py": "pipelines/prepare/out_of_core/test_out_of_core.py",
    "data/store.py": "contracts/test_stored_folders.py",
    "hub/wheels.py": "hub/test_assets.py",
    "llm/reference.py": "pipelines/train/test_tune_llm.py",
    "runs/folder.py": "contracts/test_stored_folders.py",
    "runs/manifest.py": "attacks/test_damaged_files.py",
    "runs/run_files.py": "attacks/test_damaged_files.py",
    "runs/trained_run.py": "contracts/test_same_lists.py",
    "text/embed_parts.py": "pipelines/embed/test_embed_shards.py",
    "text/embedding_shards.py": "pipelines/embed/test_embed_shards.py",
    "text/resume.py": "pipelines/embed/test_embed.py",
    "text/similar_users.py": "text/test_store.py",
    # Parts of a stage: its results are compared with those of another way to get them.
    "pipelines/estimate/footprint.py": "pipelines/estimate/test_plan.py",
    "pipelines/estimate/trial.py": "pipelines/estimate/test_plan.py",
    "pipelines/estimate/workload.py": "pipelines/estimate/test_plan.py",
    "data/order_checks.py": "data/test_order.py",
    "pipelines/recommend/vectors/pgvector.py": "pipelines/recommend/vectors/test_export_vectors.py",
    "pipelines/recommend/vectors/qdrant.py": "pipelines/recommend/vectors/test_export_vectors.py",
    "pipelines/train/fit_run.py": "contracts/test_system_contract.py",
    "systems/tuned_text/config.py": "docs/test_tuned_text.py",
    "systems/tuned_text/distilled.py": "systems/tuned_text/test_distillation.py",
    "text/words/vocabulary.py": "systems/test_texttower.py",
    "pipelines/train/textual_ids.py": "pipelines/train/test_foundation.py",
    "pipelines/train/train.py": "contracts/test_system_contract.py",
    "reports/sweep_report.py": "pipelines/experiments/test_sweep.py",
    "runs/new_items.py": "pipelines/recommend/test_add_items.py",
    "runs/recommendations.py": "contracts/test_same_lists.py",
    "serving/http/routes/explore.py": "serving/http/test_http_compare.py",
    "serving/http/routes/items.py": "serving/http/test_http.py",
    "serving/http/routes/models.py": "serving/http/test_http.py",
    "serving/http/routes/recommend.py": "serving/http/test_http.py",
    "serving/http/routes/users.py": "serving/http/test_http.py",
}
"""Longer modules without a test file of their own: the file that tests what they do."""

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


def code_lines(source: str) -> int:
    """Returns the number of lines without blank ones, comments and docstrings."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docstrings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(
        number not in docstrings and not line.lstrip().startswith("#") and bool(line.strip())
        for number, line in enumerate(source.splitlines(), start=1)
    )


def has_tests(module: Path, tests: Path = TESTS) -> bool:
    """Whether the folder that mirrors a module's has a test file of the module or of its package.

    A package's file is named after the package; that of a system is `test_system.py`.
    """
    package = module.parent
    subjects = {module.stem, package.name}
    if package.parent.name == "systems":
        subjects.add("system")
    names = [file.stem.removeprefix("test_") for file in (tests / package).glob("test_*.py")]
    return any(n == subject or n.startswith(f"{subject}_") for n in names for subject in subjects)


@cache
def long_modules() -> list[Path]:
    """Modules of more than LONG lines of code, relative to the package."""
    return [
        file.relative_to(PACKAGE)
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.stem != "__init__" and code_lines(file.read_text(encoding="utf-8")) > LONG
    ]


@pytest.mark.parametrize("module", long_modules(), ids=Path.as_posix)
def test_a_long_module_has_tests(module: Path) -> None:
    test = COVERED.get(module.as_posix())
    if test is None:
        assert has_tests(module), f"write tests/{module.parent}/test_{module.stem}.py"
    else:
        assert (TESTS / test).is_file()
        assert not has_tests(module), "it has tests of its own: remove it from COVERED"


def test_entries_are_of_long_modules() -> None:
    assert set(COVERED) <= {module.as_posix() for module in long_modules()}


def test_lines_of_code_are_counted_without_docstrings_and_comments() -> None:
    source = (
        '"""One\ntwo."""\n\n# three\nx = """four\nfive"""\n\n\ndef f():\n    "six"\n    return 7\n'
    )
    assert code_lines(source) == 4  # x (two lines), def, return


def test_which_files_count_as_tests_of_a_module(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test_split_by_time.py").touch()
    assert has_tests(Path("data/split.py"), tmp_path)
    assert not has_tests(Path("data/splitting.py"), tmp_path)
    assert not has_tests(Path("core/split.py"), tmp_path)
    (tmp_path / "data" / "test_data.py").touch()
    assert has_tests(Path("data/splitting.py"), tmp_path)
    (tmp_path / "systems" / "melt").mkdir(parents=True)
    (tmp_path / "systems" / "melt" / "test_system.py").touch()
    assert has_tests(Path("systems/melt/head.py"), tmp_path)
    assert not has_tests(Path("systems/cities/phase.py"), tmp_path)
