"""The group of commands. A command's module is imported when the command is used."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from seqloom.cli.commands import SUMMARIES
from seqloom.cli.option_names import CURRENT_OPTIONS, options_of

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


class LazyCommand(TyperCommand):
    """The name and summary of a command, which loads the command when it is called."""

    def __init__(self, name: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self.command_name = name

    @functools.cached_property
    def loaded(self) -> TyperCommand:
        """The command with its parameters."""
        function = self.command_name.replace("-", "_")
        module = importlib.import_module(f"seqloom.cli.commands.{function}")
        app = typer.Typer(add_completion=False, context_settings=CONTEXT)
        app.command(self.command_name)(getattr(module, function))
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand)
        return command

    def make_context(self, *arguments: Any, **keywords: Any) -> Any:
        """Parses the arguments of the command."""
        CURRENT_OPTIONS.set(options_of(self.loaded))
        return self.loaded.make_context(*arguments, **keywords)


class LazyGroup(TyperGroup):
    """All commands, in the order of the help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.lazy_commands = {name: LazyCommand(name, text) for name, text in SUMMARIES.items()}
        self.commands = dict(self.lazy_commands)
