"""Every page: its commands parse, its links lead somewhere, its tables fit a screen."""

import re
import runpy
from pathlib import Path

import pytest

import seqloom
from seqloom.systems import registry
from support.documented_commands import COMMANDS_BY_NAME, ROOT, commands, pages, parsed

FILES = [*ROOT.glob("*.md"), *pages()]
COMMANDS = sorted(
    {(page.name, line) for page in pages() for line in commands(page.read_text(encoding="utf-8"))}
)
GENERATED = {"commands.md", "systems.md", "python.md"}


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_parses(page: str, line: str) -> None:
    parsed(line)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", file.read_text(encoding="utf-8")):
        generated = "reference/" in target and Path(target).name in GENERATED
        assert generated or target.startswith("http") or (file.parent / target).exists(), target


MEASURED = [ROOT / "docs/benchmarks.md", *sorted((ROOT / "docs/results").glob("*.md"))]


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.name)
def test_tables_of_results_fit_a_screen(file: Path) -> None:
    wide = [
        line
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("|") and len(line) > 120
    ]
    assert wide == []


def test_pages_that_the_code_names_exist() -> None:
    folders = ("src", "tests", "benchmarks", "scripts", "configs", "deploy")
    for file in (f for folder in folders for f in (ROOT / folder).rglob("*") if f.is_file()):
        if file.suffix in {".py", ".sh", ".yaml"}:
            for name in re.findall(r"\bdocs/[\w/-]+\.md", file.read_text(encoding="utf-8")):
                assert (ROOT / name).exists(), f"{file}: {name}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = set(re.findall(r"[\w/-]+\.md", navigation))
    written = {str(page.relative_to(ROOT / "docs")) for page in pages()}
    assert named == written | {f"reference/{name}" for name in GENERATED}


def test_the_reference_has_every_command_system_and_name() -> None:
    reference = runpy.run_path(str(ROOT / "scripts/docs_reference.py"))["reference_pages"]()
    for name in COMMANDS_BY_NAME:
        assert f"\n## seqloom {name}\n" in reference["commands"]
    for name in registry.names():
        assert f"\n## {name}\n" in reference["systems"]
    for name in set(seqloom.__all__) - {"__version__"}:
        assert f"heading: {name}\n" in reference["python"]
