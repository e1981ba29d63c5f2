"""Commands are loaded when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from seqloom.cli.main import run


def modules_of(arguments: list[str]) -> set[str]:
    """The modules that a command line imports."""
    code = f"import sys; from seqloom.cli.main import run; run({arguments!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def commands_in(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith("seqloom.cli.commands.")}


def test_the_help_imports_no_command() -> None:
    modules = modules_of(["--help"])
    assert not commands_in(modules)
    assert "pydantic" not in modules


@pytest.mark.parametrize("command", ["prepare", "import-llmesr"])
def test_the_help_of_a_command_imports_that_command(command: str) -> None:
    modules = modules_of([command, "--help"])
    assert commands_in(modules) == {f"seqloom.cli.commands.{command.replace('-', '_')}"}


def test_a_mistyped_command_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trian"]) == 2
    assert "Did you mean 'train'" in capsys.readouterr().err
