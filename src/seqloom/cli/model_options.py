"""Generates command-line options from the fields of an options model.

A field is written once, in the model: its name, type, default and docstring become the option's name, type,
default and help. A command receives the values of these options as one dictionary:

    @model_options(PrepareOptions, panels={SplitOptions: "Splitting"})
    def prepare(log: ..., *, chosen: Chosen) -> None:
        options = build(PrepareOptions, chosen)
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from seqloom.cli.comma_list import comma_list
from seqloom.cli.config_docs import alternatives
from seqloom.cli.option_names import OptionNames, name_options, option_name

Model = TypeVar("Model", bound=BaseModel)
Command = Callable[..., Any]


class Chosen(dict[str, Any]):
    """The options that the user gave, by field; fields of a nested model are in a nested dictionary.

    Options that are not given are absent, so that the model's default applies.
    """

    options: Mapping[str, str] = {}
    """Names of the options by the field's dotted path, for error messages."""


@dataclass(frozen=True)
class OptionForm:
    """Presentation of an option where the field alone does not determine it."""

    declaration: str | None = None
    """As for Typer: `--approximate/--exact`."""
    metavar: str | None = None
    """Placeholder of the value in the help."""
    envvar: str | None = None
    """Environment variable that gives the value as well."""
    repeated: bool = False
    """Takes a list by repeating the option, and not as one value with commas."""
    show_default: bool = True
    """Adds the field's default to the help."""


@dataclass(frozen=True)
class _Option:
    """An option of a field."""

    path: str
    """Dotted path of the field in the model."""
    model: type[BaseModel]
    """The model that has the field."""
    field: FieldInfo
    form: OptionForm
    name: str
    """Name of the command's parameter: the field's, or the whole path where two options would share it."""

    @property
    def annotation(self) -> Any:
        """The type that Typer parses."""
        parts = [part for part in alternatives(self.field.annotation) if part is not type(None)]
        if self.is_list:
            return list[str] if self.form.repeated else str
        if len(parts) == 1 and (get_origin(parts[0]) is Literal or parts[0] in _PLAIN):
            return parts[0]
        return str

    @property
    def is_list(self) -> bool:
        """Whether the field holds several values."""
        return any(
            get_origin(part) in (list, tuple) for part in alternatives(self.field.annotation)
        )

    @property
    def choices(self) -> list[str]:
        """The allowed words, if there is a fixed set."""
        return list(get_args(self.annotation)) if get_origin(self.annotation) is Literal else []

    @property
    def declaration(self) -> str:
        """The option's names as Typer reads them."""
        if self.form.declaration is not None:
            return self.form.declaration
        option = option_name(self.name)
        return f"{option}/--no-{option[2:]}" if self.annotation is bool else option

    def read(self, value: Any) -> Any:
        """Converts what Typer parsed to a value for the model."""
        if self.is_list and isinstance(value, str):
            return comma_list(value, self.declaration)
        return value


_PLAIN = (bool, int, float, str)
_WIDEST_CHOICES = 12
"""Characters of choices in the column of types; more would squeeze the column of texts."""


def model_options(
    model: type[BaseModel],
    *,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    panel: str | None = None,
    panels: Mapping[type[BaseModel], str] | None = None,
    forms: Mapping[str, OptionForm] | None = None,
    into: str = "chosen",
) -> Callable[[Command], Command]:
    """Adds an option for each field of `model` to a command.

    Args:
        only: fields that get an option, as dotted paths (`engine.budget_ms`); by default all.
        skip: fields without an option.
        panel: heading of the options in the help.
        panels: heading of the fields by the class that declares them.
        forms: presentation of single options, by dotted path.
        into: parameter of the command that receives the values, a `Chosen`.
    """
    paths = only or [name for name in model.model_fields if name not in skip]
    options = _resolve_all(model, paths, forms or {})
    added = [_parameter(each, _heading(each, panels or {}, panel)) for each in options]
    names = {each.path: each.declaration.partition("/")[0] for each in options}

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        kept = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for each in own.parameters.values()
            if each.name != into
        ]
        # Required parameters, then the model's options, then shared ones (--json, --quiet).
        required = [each for each in kept if each.default is inspect.Parameter.empty]
        optional = [each for each in kept if each.default is not inspect.Parameter.empty]

        @functools.wraps(command)
        def run(**values: Any) -> Any:
            chosen = Chosen()
            chosen.options = names
            for each in options:
                value = values.pop(each.name)
                if value is not None and value != []:
                    _put(chosen, each.path, each.read(value))
            return command(**values, **{into: chosen})

        run.__signature__ = inspect.Signature([*required, *added, *optional])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in [*kept, *added]}
        return run

    return decorate


def build(model: type[Model], chosen: Chosen) -> Model:
    """Validates the options that the user gave.

    Raises:
        typer.BadParameter: names the option, the value and what is allowed.
    """
    try:
        return model.model_validate(dict(chosen))
    except ValidationError as error:
        first = error.errors()[0]
        names = {path: OptionNames(option) for path, option in chosen.options.items()}
        text = name_options(first["msg"].removeprefix("Value error, "), names)
        parts = [str(part) for part in first["loc"]]
        paths = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        option = next((chosen.options[path] for path in paths if path in chosen.options), None)
        if option is None:
            raise typer.BadParameter(text) from None
        text = f"{first['input']!r} is not allowed: {text[:1].lower()}{text[1:]}"
        raise typer.BadParameter(text, param_hint=option) from None


def _resolve_all(
    model: type[BaseModel], paths: Collection[str], forms: Mapping[str, OptionForm]
) -> list[_Option]:
    """Finds the fields of dotted paths."""
    names = {path: path.rpartition(".")[2] for path in paths}
    shared = Counter(names.values())
    options = []
    for path, last in names.items():
        name = last if shared[last] == 1 else path.replace(".", "_")
        owner, field = _find_field(model, path)
        options.append(_Option(path, owner, field, forms.get(path, OptionForm()), name))
    return options


def _find_field(model: type[BaseModel], path: str) -> tuple[type[BaseModel], FieldInfo]:
    """Returns the model that has the field of a dotted path, and the field."""
    first, _, rest = path.partition(".")
    field = model.model_fields[first]
    if not rest:
        return model, field
    assert isinstance(field.annotation, type)
    assert issubclass(field.annotation, BaseModel)
    return _find_field(field.annotation, rest)


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    """Sets a dotted key."""
    *sections, name = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[name] = value


def _parameter(option: _Option, heading: str | None) -> inspect.Parameter:
    text = " ".join((option.field.description or "").split())
    metavar = option.form.metavar
    if metavar is None and len("|".join(option.choices)) > _WIDEST_CHOICES:
        metavar = "CHOICE"
        if not all(choice in text for choice in option.choices):
            text += f" One of {', '.join(option.choices)}."
    if option.form.repeated:
        text += " Repeatable."
    known = {name: OptionNames(option_name(name)) for name in option.model.model_fields}
    text = name_options(text, known).replace("`", "")
    text = text.replace("[", r"\[")  # Typer reads brackets as markup
    info = typer.Option(
        option.declaration,
        help=text + _shown_default(option),
        metavar="A,B,..." if metavar is None and option.is_list else metavar,
        envvar=option.form.envvar,
        rich_help_panel=heading,
        show_default=False,  # Typer would show None, which leaves the value to the model
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[option.annotation | None, info],
    )


def _shown_default(option: _Option) -> str:
    default = option.field.get_default(call_default_factory=True, validated_data={})
    flag = option.annotation is bool and "/" not in option.declaration
    if default is None or default is PydanticUndefined or default == ():
        return ""
    if flag or not option.form.show_default:
        return ""
    if isinstance(default, bool):
        names = option.declaration.split("/")
        default = names[0] if default else names[1]
    elif isinstance(default, float):
        default = f"{default:g}"
    elif isinstance(default, (list, tuple)):
        default = ",".join(map(str, default))
    return rf" \[default: {default}]"


def _heading(
    option: _Option, panels: Mapping[type[BaseModel], str], otherwise: str | None
) -> str | None:
    """Returns the panel of the class that declares a field first."""
    name = option.path.rpartition(".")[2]
    owners = [cls for cls in reversed(option.model.__mro__) if name in inspect.get_annotations(cls)]
    return panels.get(owners[0], otherwise) if owners else otherwise
