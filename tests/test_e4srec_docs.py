"""docs/e4srec.md names what exists."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from seqloom.cli.config_docs import config_keys
from seqloom.cli.main import build_app
from seqloom.core.config import apply_overrides
from seqloom.llm.tuning import TuneConfig
from seqloom.systems.e4srec.config import E4SRecConfig

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "e4srec.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^seqloom .*$", TEXT, flags=re.MULTILINE)
GROUP = typer.main.get_command(build_app())


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    _, name, *rest = shlex.split(line)
    parameters = GROUP.commands[name].make_context(name, rest).params
    model = {"train": E4SRecConfig, "tune-llm": TuneConfig}.get(name)
    if model is not None and parameters.get("system", "e4srec") == "e4srec":
        model.build(apply_overrides({}, parameters["overrides"] or []))


def test_every_key_of_tune_llm_is_told() -> None:
    table = TEXT.partition("| key of `tune-llm` |")[2].partition("\n\n")[0]
    told = set(re.findall(r"`(\w+)(?:\.\*)?`", table))
    assert {row["key"].partition(".")[0] for row in config_keys(TuneConfig)} <= told


def test_every_key_that_is_told_exists() -> None:
    table = TEXT.partition("| key | what |")[2].partition("\n\n")[0]
    keys = {row["key"] for row in config_keys(E4SRecConfig)}
    told = re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE)
    for name in re.findall(r"`([\w.]+)(?:\.\*)?`", " ".join(told)):
        assert any(key == name or key.startswith(name.rstrip(".") + ".") for key in keys), name
