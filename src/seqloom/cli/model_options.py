"""Command-line options that are generated from the fields of an options model.

A field is written once, in the model: its name, type, default and docstring become the option's name,
type, default and help. A command takes what was given as one dictionary:

    @model_options(PrepareOptions, panels={"split": "Splitting"})
    def prepare(log: ..., *, chosen: Chosen) -> None:
        options = build(PrepareOptions, chosen)
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from seqloom.cli.config_docs import alternatives

Model = TypeVar("Model", bound=BaseModel)
Chosen = dict[str, Any]
"""The options that the user gave, by field name. What is not given is left to the model."""
_CHOSEN = "chosen"


def model_options(
    model: type[BaseModel],
    *,
    skip: Collection[str] = (),
    panel: str | None = None,
    panels: Mapping[type[BaseModel], str] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add an option for each field of `model` to a command, which receives them as `chosen`.

    Args:
        skip: fields without an option.
        panel: heading of the options in the help; `panels` gives the heading of the fields that a
            base class declares.
    """
    fields = {name: field for name, field in model.model_fields.items() if name not in skip}
    headings = {name: _heading(model, name, panels or {}, panel) for name in fields}
    added = [_parameter(model, name, field, headings[name]) for name, field in fields.items()]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        kept = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for each in own.parameters.values()
            if each.name != _CHOSEN
        ]
        # What is required first, then the model's options, then the shared ones (--json, --quiet).
        required = [each for each in kept if each.default is inspect.Parameter.empty]
        optional = [each for each in kept if each.default is not inspect.Parameter.empty]

        @functools.wraps(command)
        def run(**values: Any) -> Any:
            chosen = {name: values.pop(name) for name in fields}
            lists = {name for name, field in fields.items() if _is_list(field.annotation)}
            given = {
                name: _split(value) if name in lists else value
                for name, value in chosen.items()
                if value is not None
            }
            return command(**values, **{_CHOSEN: given})

        run.__signature__ = inspect.Signature([*required, *added, *optional])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in [*kept, *added]}
        return run

    return decorate


def build(model: type[Model], chosen: Mapping[str, Any]) -> Model:
    """Validate what the user gave.

    Raises:
        typer.BadParameter: names the option, the value and what is allowed.
    """
    try:
        return model.model_validate(dict(chosen))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        text = option_words(model, first["msg"].removeprefix("Value error, "))
        if not name:
            raise typer.BadParameter(text) from None
        text = f"{first['input']!r} is not allowed: {text[:1].lower()}{text[1:]}"
        raise typer.BadParameter(text, param_hint=option_name(name)) from None


def option_name(field: str) -> str:
    """The option of a field: `--min-count` of `min_count`."""
    return "--" + field.replace("_", "-")


def option_words(model: type[BaseModel], text: str) -> str:
    """`text` with each field of `model` named as its option."""
    names = sorted(model.model_fields, key=len, reverse=True)
    quoted = re.compile("`(" + "|".join(names) + ")`")
    bare = re.compile(r"(?<![\w-])(" + "|".join(n for n in names if "_" in n) + r")(?![\w-])")
    return bare.sub(lambda m: option_name(m[1]), quoted.sub(lambda m: option_name(m[1]), text))


def _parameter(
    model: type[BaseModel], name: str, field: FieldInfo, heading: str | None
) -> inspect.Parameter:
    annotation, metavar = _cli_type(field.annotation)
    text = option_words(model, " ".join((field.description or "").split())).replace("`", "")
    text = text.replace("[", r"\[")  # Typer reads brackets as markup
    option = typer.Option(
        _declaration(name, annotation),
        help=text + _shown_default(field),
        metavar=metavar,
        rich_help_panel=heading,
        show_default=False,  # Typer's own would be the None that leaves the value to the model
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation | None, option],
    )


def _declaration(name: str, annotation: Any) -> str:
    option = option_name(name)
    return f"{option}/--no-{option[2:]}" if annotation is bool else option


def _cli_type(annotation: Any) -> tuple[Any, str | None]:
    """The type that Typer parses, and what stands for the value in the help."""
    parts = [part for part in alternatives(annotation) if part is not type(None)]
    if _is_list(annotation):
        return str, "A,B,..."
    if len(parts) == 1 and (get_origin(parts[0]) is Literal or parts[0] in (bool, int, float, str)):
        return parts[0], None
    return str, None


def _is_list(annotation: Any) -> bool:
    return any(get_origin(part) in (list, tuple) for part in alternatives(annotation))


def _shown_default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or default is PydanticUndefined or default == ():
        return ""
    if isinstance(default, (list, tuple)):
        default = ",".join(map(str, default))
    return f" (default: {str(default).lower() if isinstance(default, bool) else default})"


def _heading(
    model: type[BaseModel],
    field: str,
    panels: Mapping[type[BaseModel], str],
    otherwise: str | None,
) -> str | None:
    """The panel of the class that declares a field first."""
    owners = [cls for cls in reversed(model.__mro__) if field in inspect.get_annotations(cls)]
    return panels.get(owners[0], otherwise) if owners else otherwise


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
