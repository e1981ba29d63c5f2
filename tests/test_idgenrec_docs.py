"""docs/idgenrec.md names what exists, and its configuration is valid."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from seqloom.cli.config_docs import config_keys
from seqloom.cli.main import build_app
from seqloom.core.config import apply_overrides, read_config_file
from seqloom.systems.idgenrec.config import IDGenRecConfig

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "idgenrec.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^seqloom .*$", TEXT, flags=re.MULTILINE)
GROUP = typer.main.get_command(build_app())


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    _, name, *rest = shlex.split(line)
    parameters = GROUP.commands[name].make_context(name, rest).params
    if name == "train":
        file = parameters["config"]
        values = read_config_file(ROOT / file) if file else {}
        IDGenRecConfig.build(apply_overrides(values, parameters["overrides"] or []))


def test_every_key_that_is_told_exists() -> None:
    table = TEXT.partition("| key | what |")[2].partition("\n\n")[0]
    keys = {row["key"] for row in config_keys(IDGenRecConfig)}
    told = re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE)
    named = re.findall(r"`([\w.]+)`", " ".join(told))
    assert len(named) > 8
    assert set(named) <= keys
