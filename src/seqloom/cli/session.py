"""The session of a command: shows progress and writes the result."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from seqloom.core.device import keep_freed_memory
from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.distributed.processes import ALONE, Processes, are_several

if TYPE_CHECKING:
    from rich.console import RenderableType

Renderer = Callable[[Any], Iterable["RenderableType"]]


class Session:
    """Progress and result of one command."""

    def __init__(self, progress: Progress, processes: Processes = ALONE) -> None:
        self.progress = progress
        self.processes = processes
        """The processes that run the command together, if a launcher started several."""
        self._result: tuple[Any, Renderer] | None = None
        self._next_step = ""

    def finish(self, result: Any, render: Renderer, *, next_step: str = "") -> None:
        """Keeps the result to write at the end, as JSON or as `render(document)` draws it.

        `result` is plain data, a dataclass or a pydantic model; `render` receives plain data. `next_step` is
        the command that usually follows, shown below what `render` draws.
        """
        self._result, self._next_step = (plain(result), render), next_step

    def write(self, json_output: bool) -> None:
        """Writes the result to standard output."""
        if self._result is None:
            return
        document, render = self._result
        if json_output:
            print(json.dumps(document, indent=2, allow_nan=False), flush=True)
            return
        from seqloom.cli.show import stdout_console

        console = stdout_console()
        for renderable in render(document):
            console.print(renderable, markup=False, soft_wrap=isinstance(renderable, str))
        if self._next_step:
            console.print(f"\nNext: {self._next_step}", style="dim", markup=False, soft_wrap=True)


@contextlib.contextmanager
def session(*, json_output: bool, quiet: bool, divides: bool = False) -> Iterator[Session]:
    """Runs the work of a command: progress on standard error, the result on standard output at the end.

    With `json_output`, everything that libraries print is redirected to standard error. With `divides`,
    several processes can run the command together; only the first writes output.

    Raises:
        ConfigError: a launcher started several processes of a command that runs in one.
    """
    from seqloom.cli.option_names import name_current_options
    from seqloom.core.progress_bars import open_progress

    keep_freed_memory()
    with contextlib.ExitStack() as stack:
        if json_output:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        processes = stack.enter_context(_open_processes(divides=divides))
        writes = processes.rank == 0
        shown = open_progress(quiet=quiet, wording=name_current_options)
        progress = stack.enter_context(shown) if writes else SILENT
        current = Session(progress, processes)
        yield current
    if writes:
        current.write(json_output)


def _open_processes(*, divides: bool) -> contextlib.AbstractContextManager[Processes]:
    if not are_several(os.environ):
        return contextlib.nullcontext(ALONE)  # without loading torch
    if not divides:
        raise ConfigError(
            f"a launcher started {os.environ['WORLD_SIZE']} processes, but only train, tune-llm and evaluate "
            "divide their work among several; run this command without torchrun or accelerate"
        )
    from seqloom.distributed.process_group import open_processes

    return open_processes()


def plain(value: Any) -> Any:
    """Converts `value` to JSON types: models to mappings, paths to strings, NaN and infinity to null."""
    from pydantic_core import to_jsonable_python

    return _finite(to_jsonable_python(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return value
