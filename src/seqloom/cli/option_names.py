"""Replaces the names of Python parameters in a text by the options of the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typer.core import TyperCommand


class OptionNames(NamedTuple):
    """How a parameter is written on the command line."""

    on: str
    off: str | None = None
    """Negative form of a flag, such as `--no-header`."""


CURRENT_OPTIONS: ContextVar[Mapping[str, OptionNames]] = ContextVar("CURRENT_OPTIONS")
"""Options of the command that runs, by parameter."""


def option_name(parameter: str) -> str:
    """Returns the usual option of a parameter: `--min-count` for `min_count`."""
    return "--" + parameter.replace("_", "-")


def options_of(command: TyperCommand) -> dict[str, OptionNames]:
    """Returns the options of a command by the name of their parameter."""
    return {
        each.name: OptionNames(
            max(each.opts, key=len), each.secondary_opts[0] if each.secondary_opts else None
        )
        for each in command.params
        if each.name and each.param_type_name == "option"
    }


def name_options(text: str, options: Mapping[str, OptionNames]) -> str:
    """Returns `text` with parameters written as options.

    Replaces `name='value'`, names in backquotes, names after the word "option", and bare names that contain
    an underscore. Values in quotes, parts of paths and dotted keys stay as they are.
    """
    if not options:
        return text
    any_name = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    long_name = "|".join(
        sorted((re.escape(name) for name in options if "_" in name), key=len, reverse=True)
    )
    start, end = r"""(?<![\w./'"=-])""", r"(?![\w/-]|\.\w)"
    value = r"""('[^']*'|"[^"]*"|[\w.-]*\w)"""
    text = re.sub(
        f"(`?){start}({any_name})={value}\\1{end}",
        lambda match: _assignment(options[match[2]], match[3]),
        text,
    )
    text = re.sub(f"`({any_name})`", lambda match: options[match[1]].on, text)
    text = re.sub(rf"(?<=\boption )({any_name}){end}", lambda match: options[match[1]].on, text)
    if long_name:
        text = re.sub(f"{start}({long_name}){end}", lambda match: options[match[1]].on, text)
    return text


def name_current_options(text: str) -> str:
    """Returns `text` with parameters of the command that runs written as options."""
    return name_options(text, CURRENT_OPTIONS.get({}))


def _assignment(names: OptionNames, value: str) -> str:
    """Writes `name=value` as an option and its value."""
    if names.off is not None and value.lower() in ("true", "false"):
        return names.on if value.lower() == "true" else names.off
    if value[0] in "'\"" and value[0] == value[-1]:
        value = value[1:-1]
    return f"{names.on} {shlex.quote(value)}"
