"""Configurations: unknown keys, bad values, YAML files and overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field, ValidationError

from seqloom.core.config import Config, apply_overrides, read_config_file
from seqloom.core.errors import ConfigError


class Inner(Config):
    width: int = Field(8, ge=1)
    """The width."""


class Outer(Config):
    epochs: int = 3
    encoder: Inner = Inner()


def test_nested_values_are_built_and_the_rest_are_defaults() -> None:
    config = Outer.build({"encoder": {"width": 4}})
    assert (config.epochs, config.encoder.width) == (3, 4)
    assert Outer.build() == Outer.build(None) == Outer()
    assert Inner.model_fields["width"].description == "The width."


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Outer().epochs = 4  # type: ignore[misc]  # the assignment that must fail


def test_yaml_gives_an_equal_configuration() -> None:
    config = Outer.build({"epochs": 9, "encoder": {"width": 2}})
    assert Outer.build(yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": {"widht": 4}}, r"encoder\.widht: unknown key.*width"),
        ({"epohcs": 4}, r"epohcs: unknown key.*epochs.*allowed: epochs, encoder"),
        ({"encoder": {"width": 0}}, r"encoder\.width: found 0: .*greater than or equal to 1"),
        ({"epochs": "many"}, r"epochs: found 'many'"),
    ],
)
def test_errors_name_the_key_its_value_and_what_is_allowed(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Outer.build(values)


def test_overrides_are_parsed_as_yaml_and_the_last_one_wins() -> None:
    values: dict[str, Any] = {"encoder": {"width": 8}, "epochs": 1}
    merged = apply_overrides(values, ["encoder.width=16", "a.b=[1, x]", "epochs=2", "epochs=null"])
    assert merged == {"encoder": {"width": 16}, "epochs": None, "a": {"b": [1, "x"]}}
    assert values == {"encoder": {"width": 8}, "epochs": 1}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("a..b=3", "not of the form key=value"),
        ("epochs.more=3", "'epochs' is a value, not a section"),
        ("epochs=[1", "not valid YAML"),
        ("epochs=2020-99-99", "not valid YAML"),
        ("epochs=" + "[" * 5000, "nested too deeply"),
    ],
)
def test_bad_overrides_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"epochs": 1}, [override])


@pytest.mark.parametrize(
    ("text", "values"), [("epochs: 2\n", {"epochs": 2}), ("", {}), ("# nothing\n", {})]
)
def test_a_file_is_a_mapping(text: str, values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    assert read_config_file(file) == values


def test_a_file_that_is_no_mapping_is_refused_without_quoting_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    for text, message in (("- 1\n", "holds a list"), ("key: 'secret\n", "not valid YAML")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message) as error:
            read_config_file(file)
        assert "secret" not in str(error.value)
    with pytest.raises(ConfigError, match="no-such"):
        read_config_file(tmp_path / "no-such.yaml")
