"""Generates the reference pages of the documentation from the code when MkDocs builds the site.

`reference/commands.md` shows every command with its options, `reference/systems.md` the configuration
keys of every system, and `reference/python.md` every public name. The repository keeps none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import seqloom
from seqloom.cli.config_docs import config_keys
from seqloom.cli.main import build_group

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

_COMMON_OPTIONS = {"--json", "--quiet"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages. Called by MkDocs."""
    from mkdocs.structure.files import File

    for name, text in reference_pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def reference_pages() -> dict[str, str]:
    """Markdown of every reference page by name."""
    pages = {"commands": _commands(), "systems": _systems(), "python": _python_names()}
    return {name: "\n".join(lines) + "\n" for name, lines in pages.items()}


def _commands() -> Iterator[str]:
    yield "# Commands\n\nEvery command takes `--json`, `--quiet` and `--help`.\n"
    for name, lazy in build_group().lazy_commands.items():
        command: Any = lazy.loaded
        yield f"## seqloom {name}\n\n{_paragraphs(command.help)}\n"
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join([f"seqloom {name}", "[OPTIONS]", *map(_argument_name, arguments)])
        yield f"```\n{usage}\n```\n"
        yield "| option | default | meaning |\n|---|---|---|"
        yield from (_parameter_row(p) for p in command.params if not _is_common(p))
        yield ""


def _parameter_row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = _argument_name(parameter)
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    shown = "" if default is None or default is False or callable(default) else f"`{default}`"
    return f"| `{name}` | {_cell(shown)} | {_cell(parameter.help or '')} |"


def _systems() -> Iterator[str]:
    from seqloom.systems import registry

    yield "# Configuration keys\n\nKeys of `--set`, of a `--config` file and of `config` in Python."
    for name in registry.names():
        yield f"\n## {name}\n\n| key | type | default | meaning |\n|---|---|---|---|"
        for row in config_keys(registry.config_class(name)):
            cells = (f"`{row['key']}`", row["type"], f"`{row['default']}`", row["description"])
            yield "| " + " | ".join(_cell(str(cell)) for cell in cells) + " |"


def _python_names() -> Iterator[str]:
    yield "# Python\n\nEverything that `import seqloom` offers."
    for name in sorted(set(seqloom.__all__) - {"__version__"}, key=str.lower):
        value = getattr(seqloom, name)
        home = f"{value.__module__}.{value.__qualname__}"
        yield f"\n::: {home}\n    options:\n      heading: {name}\n      toc_label: {name}"


def _is_common(parameter: Any) -> bool:
    return bool(_COMMON_OPTIONS & set(parameter.opts))


def _argument_name(parameter: Any) -> str:
    return (parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs < 0 else "")


def _paragraphs(text: str | None) -> str:
    return (text or "").replace("\b", "").replace("\\[", "[")


def _cell(text: str) -> str:
    """The text on one line of a table."""
    return " ".join(text.replace("\\[", "[").split()).replace("|", "\\|")
