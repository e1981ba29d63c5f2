"""docs/guides/tuned-text.md tells every key of `tune-encoder`, and its commands exist."""

import re

import pytest

from seqloom.cli.config_docs import config_keys
from seqloom.core.config import apply_overrides
from seqloom.systems.registry import config_class
from seqloom.systems.tuned_text.config import TUNING_CONFIGS
from support.documented_commands import commands, page, parsed

TEXT = page("guides/tuned-text.md")
TABLE = TEXT.partition("| key | kind |")[2].partition("\n\n")[0]
TOLD = {
    name
    for row in re.findall(r"^\| (`.*?) \|", TABLE, flags=re.MULTILINE)
    for name in re.findall(r"`(\w+)", row)
}


@pytest.mark.parametrize("line", commands(TEXT))
def test_every_command_parses(line: str) -> None:
    name, parameters = parsed(line)
    values = apply_overrides({}, parameters.get("overrides") or [])
    if name == "train":
        config_class(parameters["system"]).build(values)
    if name == "tune-encoder":
        TUNING_CONFIGS[str(getattr(parameters["kind"], "value", parameters["kind"]))].build(values)


@pytest.mark.parametrize("kind", TUNING_CONFIGS)
def test_every_key_is_told(kind: str) -> None:
    keys = {row["key"].partition(".")[0] for row in config_keys(TUNING_CONFIGS[kind])}
    assert keys <= TOLD


def test_every_key_that_is_told_exists() -> None:
    keys = {
        row["key"].partition(".")[0]
        for config in TUNING_CONFIGS.values()
        for row in config_keys(config)
    }
    assert keys >= TOLD
