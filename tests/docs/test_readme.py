"""The README is short, and what it shows exists."""

import re

import pytest

from seqloom.core.config import apply_overrides
from seqloom.systems import registry
from support.documented_commands import COMMANDS_BY_NAME, ROOT, code_blocks, commands, parsed

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = commands(README)


def test_it_is_short() -> None:
    assert len(README.split()) <= 1100


def test_it_shows_the_main_commands() -> None:
    names = {parsed(line)[0] for line in COMMANDS}
    assert names >= {"prepare", "embed", "train", "evaluate", "compare", "recommend", "demo"}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    _, parameters = parsed(line)
    if "system" in parameters:
        config = registry.config_class(parameters["system"])
        config.build(apply_overrides({}, parameters["overrides"] or []))


def test_every_option_in_the_text_exists() -> None:
    known = {
        o for c in COMMANDS_BY_NAME.values() for p in c.params for o in [*p.opts, *p.secondary_opts]
    }
    named = set(re.findall(r"`(?:--help|(--[a-z][a-z-]*))", README)) - {""}
    assert {"--json", "--system"} <= named
    assert named <= known


def test_every_system_is_in_the_table() -> None:
    table = README.partition("## The systems")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == registry.names()


def test_it_shows_python() -> None:
    assert "python" in {language for language, _ in code_blocks(README)}


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs/start").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets
