"""docs/guides/idgenrec.md names what exists, and its configuration is valid."""

import re
from pathlib import Path

import pytest

from seqloom.cli.config_docs import config_keys
from seqloom.core.config import apply_overrides, read_config_file
from seqloom.systems.idgenrec.config import IDGenRecConfig
from support.documented_commands import ROOT, commands, page, parsed

TEXT = page("guides/idgenrec.md")
CONFIGS = sorted((ROOT / "configs" / "idgenrec").glob("*.yaml"))


@pytest.mark.parametrize("line", commands(TEXT))
def test_every_command_parses(line: str) -> None:
    name, parameters = parsed(line)
    if name == "train":
        file = parameters["config"]
        values = read_config_file(ROOT / file) if file else {}
        IDGenRecConfig.build(apply_overrides(values, parameters["overrides"] or []))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_configuration_is_valid_and_documented(file: Path) -> None:
    IDGenRecConfig.build(read_config_file(file))
    assert file.read_text(encoding="utf-8").startswith("# ")
    assert f"`{file.name}`" in TEXT or f"`configs/idgenrec/{file.name}`" in TEXT


def test_every_documented_key_exists() -> None:
    table = TEXT.partition("| key | what |")[2].partition("\n\n")[0]
    keys = {row["key"] for row in config_keys(IDGenRecConfig)}
    reported = re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE)
    named = re.findall(r"`([\w.]+)`", " ".join(reported))
    assert len(named) > 8
    assert set(named) <= keys
