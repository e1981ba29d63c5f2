"""docs/guides/e4srec.md names what exists, and the configurations of the paper's variants are valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from seqloom.cli.config_docs import config_keys
from seqloom.core.config import apply_overrides, read_config_file
from seqloom.llm.plugins.tuning import TuneConfig
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.registry import system_class
from support.documented_commands import ROOT, commands, page, parsed

TEXT = page("guides/e4srec.md")
CONFIGS = sorted((ROOT / "configs" / "e4srec").glob("*.yaml"))


@pytest.mark.parametrize("line", commands(TEXT))
def test_every_command_parses(line: str) -> None:
    name, parameters = parsed(line)
    model: Any = {"train": E4SRecConfig, "tune-llm": TuneConfig}.get(name)
    if model is not None and parameters.get("system", "e4srec") == "e4srec":
        model.build(apply_overrides({}, parameters["overrides"] or []))


def test_every_key_of_tune_llm_is_documented() -> None:
    table = TEXT.partition("| key of `tune-llm` |")[2].partition("\n\n")[0]
    reported = set(re.findall(r"`(\w+)(?:\.\*)?`", table))
    assert {row["key"].partition(".")[0] for row in config_keys(TuneConfig)} <= reported


def test_every_documented_key_exists() -> None:
    table = TEXT.partition("| key | what |")[2].partition("\n\n")[0]
    keys = {row["key"] for row in config_keys(E4SRecConfig)}
    reported = re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE)
    for name in re.findall(r"`([\w.]+)(?:\.\*)?`", " ".join(reported)):
        assert any(key == name or key.startswith(name.rstrip(".") + ".") for key in keys), name


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_configuration_is_valid_and_documented(file: Path) -> None:
    config = E4SRecConfig.build(read_config_file(file))
    assert file.read_text(encoding="utf-8").startswith("# ")
    system_class(config.ids.system).config_class.build(config.ids.config)
    assert f"`{file.stem}`" in TEXT
    assert (config == E4SRecConfig()) == (file.stem == "causal")


def test_the_script_names_the_configurations() -> None:
    script = (ROOT / "scripts" / "e4srec.sh").read_text(encoding="utf-8")
    (reported,) = re.findall(r'VARIANTS:-"([^"]*)"', script)
    assert {file.stem for file in CONFIGS} == {*reported.split(), "cpu"}
