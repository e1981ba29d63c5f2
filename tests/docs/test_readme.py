"""What the README tells people to type exists."""

import ast
import re
import shlex

import pytest

import seqloom
from seqloom.core.config import apply_overrides
from seqloom.systems import registry
from support.documented_commands import COMMANDS_BY_NAME, ROOT, parsed

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for _, block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("seqloom ")
]


def test_the_commands_are_found() -> None:
    told = {shlex.split(line)[1] for line in COMMANDS}
    assert told >= {"prepare", "embed", "train", "evaluate", "compare", "recommend", "demo"}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    _, parameters = parsed(line)
    if "system" in parameters:
        overrides = parameters["overrides"] or []
        config = registry.config_class(parameters["system"])
        config.build(apply_overrides({}, overrides))


def test_every_option_in_the_text_exists() -> None:
    known = {
        o for c in COMMANDS_BY_NAME.values() for p in c.params for o in [*p.opts, *p.secondary_opts]
    }
    told = set(re.findall(r"`(--[a-z][a-z-]*)", README))
    assert "--min-count" in told
    assert told <= known


def test_every_system_is_in_the_table() -> None:
    table = README.partition("## The systems")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == registry.names()


def test_the_python_is_the_public_one() -> None:
    (code,) = (block for language, block in BLOCKS if language == "python")
    used = {
        node.attr
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "seqloom"
    }
    assert used
    assert used <= set(seqloom.__all__)


def test_links_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8")):
            assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        told = re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)
        assert set(told) <= targets
