"""The commands, one module each (or a small group).

A module here has `ORDER` (its place in the help) and `register(app)`; adding a command is adding a
file. A command imports its stage inside the function, so that `seqloom --help` is quick.
"""

from __future__ import annotations

import importlib
import pkgutil

import typer


def register_all(app: typer.Typer) -> None:
    """Add every command of this package to `app`, in their order."""
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    for module in sorted(modules, key=lambda module: module.ORDER):
        module.register(app)
