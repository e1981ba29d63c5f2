"""Configuration: frozen pydantic models that refuse unknown keys and carry their own documentation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Tag, ValidationError

from seqloom.core.errors import ConfigError
from seqloom.core.suggestions import suggest
from seqloom.core.text_files import read_text


class Config(BaseModel):
    """Base of every configuration: immutable, refuses unknown keys, fields documented by docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def build(cls, values: Mapping[str, Any] | None = None) -> Self:
        """Builds the configuration from nested mappings.

        Raises:
            ConfigError: names each invalid key by its dotted path, its value and what is allowed.
        """
        try:
            return cls.model_validate(dict(values or {}))
        except ValidationError as error:
            raise ConfigError(_explain(cls, error)) from None

    def to_yaml(self) -> str:
        """Returns the configuration as YAML; `build(yaml.safe_load(...))` gives an equal object."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def read_config_file(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: the file is missing, or is not text, not YAML or not a mapping.
    """
    text = read_text(path, "configuration file", ConfigError)
    try:
        # From a stream, so that errors quote no line of the file, which may hold a password.
        values = yaml.safe_load(io.StringIO(text))
    except RecursionError:
        raise ConfigError(
            f"configuration file {path} is not valid YAML: its brackets are nested too deeply"
        ) from None
    # YAML takes a value such as 2020-99-99 for a date and raises ValueError.
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"configuration file {path} is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"configuration file {path} holds a {type(values).__name__}; write `key: value` lines"
        )
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Applies `key.sub=value` strings (values parsed as YAML) to nested `values`; later ones win.

    Raises:
        ConfigError: an override has no `=`, an empty key, or passes through a value that is not a mapping.
    """
    merged: dict[str, Any] = _copy(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"override {override!r} is not of the form key=value")
        target = merged
        for part in parts[:-1]:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ConfigError(f"override {override!r}: {part!r} is a value, not a section")
        try:
            target[parts[-1]] = yaml.safe_load(text)
        except RecursionError:
            raise ConfigError(
                f"override {parts[-1]!r}: its brackets are nested too deeply"
            ) from None
        except (yaml.YAMLError, ValueError, TypeError) as error:
            raise ConfigError(
                f"override {override!r}: the value is not valid YAML: {error}"
            ) from None
    return merged


def nested(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merges mappings into a nested one; later values win, and dotted keys open sections.

    Raises:
        ConfigError: a dotted key leads through a value.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            *sections, last = key.split(".")
            target = merged
            for section in sections:
                target = target.setdefault(section, {})
                if not isinstance(target, dict):
                    raise ConfigError(f"key {key!r}: {section!r} is a value, not a section")
            if isinstance(value, Mapping):
                below = target.get(last)
                target[last] = nested(below if isinstance(below, dict) else {}, value)
            else:
                target[last] = value
    return merged


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _explain(cls: type[BaseModel], error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        keys = _walk(cls, item["loc"])
        path = ".".join(key for key, _ in keys) or "(top level)"
        if item["type"] == "extra_forbidden":
            model = keys[-2][1] if len(keys) > 1 else cls
            lines.append(f"{path}: unknown key{_suggest(model, keys[-1][0])}")
        else:
            lines.append(f"{path}: found {item['input']!r}: {item['msg'].lower()}")
    return f"invalid {cls.__name__}:\n  " + "\n  ".join(lines)


def _walk(cls: type[BaseModel], loc: tuple[int | str, ...]) -> list[tuple[str, Any]]:
    """Returns the keys along `loc`, each with the model (or None) at that place.

    Where a key may hold one of several models, pydantic adds the tag of the chosen one to `loc`; it is
    left out.
    """
    keys: list[tuple[str, Any]] = []
    here: Any = cls
    for part in loc:
        if isinstance(here, dict) and part in here:
            here = here[part]
            keys[-1] = (keys[-1][0], here)
            continue
        field = getattr(here, "model_fields", {}).get(part)
        here = _models(field.annotation) if field is not None else None
        keys.append((str(part), here))
    return keys


def _models(annotation: Any) -> Any:
    """Returns the model that an annotation names, or the models of a tagged union by tag."""
    tagged = {
        tag.tag: get_args(option)[0]
        for option in get_args(annotation)
        for tag in getattr(option, "__metadata__", ())
        if isinstance(tag, Tag)
    }
    return tagged or annotation


def _suggest(model: Any, key: str) -> str:
    """Lists the keys that `model` allows, with the closest match first."""
    allowed = list(getattr(model, "model_fields", {}))
    if not allowed:
        return ""
    return f"{suggest(key, allowed)} (allowed: {', '.join(allowed)})"
