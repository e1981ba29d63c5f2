"""Lists the keys of a configuration model, as `--set` takes them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


def config_keys(model: type[BaseModel], prefix: str = "") -> list[dict[str, Any]]:
    """Lists the keys of a model: `key` (dotted), `type`, `default`, `description`.

    Where a field is a union of models, lists each of their keys once, with the default of the default
    model and the types that any of them takes.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, field in model.model_fields.items():
        for row in _field_rows(prefix + name, field):
            known = rows.setdefault(row["key"], row)
            words = dict.fromkeys([*known["type"].split(" | "), *row["type"].split(" | ")])
            known["type"] = " | ".join(words)
    return list(rows.values())


def _field_rows(key: str, field: FieldInfo) -> Iterator[dict[str, Any]]:
    nested = [part for part in alternatives(field.annotation) if _is_model(part)]
    if not nested:
        yield {
            "key": key,
            "type": type_text(field.annotation),
            "default": _default(field),
            "description": " ".join((field.description or "").split()),
        }
        return
    for part in _with_default_first(nested, field):
        yield from config_keys(part, f"{key}.")


def type_text(annotation: Any) -> str:
    """Describes a type: `float`, `list of str`, `a | b` for a choice of words."""
    if annotation is None or annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return " | ".join(str(value) for value in get_args(annotation))
    parts = alternatives(annotation)
    if len(parts) > 1:
        return " | ".join(type_text(part) for part in parts)
    if get_origin(annotation) in (list, tuple, set, frozenset):
        inner = [arg for arg in get_args(annotation) if arg is not Ellipsis]
        return "list of " + " | ".join(dict.fromkeys(type_text(arg) for arg in inner))
    return getattr(annotation, "__name__", str(annotation))


def alternatives(annotation: Any) -> list[Any]:
    """Returns the types of a union, or the type itself."""
    if hasattr(annotation, "__metadata__"):
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for arg in get_args(annotation) for part in alternatives(arg)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _with_default_first(models: list[type[BaseModel]], field: FieldInfo) -> list[type[BaseModel]]:
    default = field.get_default(call_default_factory=True, validated_data={})
    return sorted(models, key=lambda model: not isinstance(default, model))


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True, validated_data={})
    return "(required)" if default is PydanticUndefined else default
