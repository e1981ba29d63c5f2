"""One run of one command: where its progress goes, and how its result is written."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from seqloom.core.device import keep_freed_memory
from seqloom.core.progress import Progress

if TYPE_CHECKING:
    from rich.console import RenderableType

Renderer = Callable[[Any], Iterable["RenderableType"]]


class Session:
    """Carries the progress to a stage and its result back to the user."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._result: tuple[Any, Renderer] | None = None

    def finish(self, result: Any, render: Renderer) -> None:
        """Keep `result` for the end: as JSON, or as `render(document)` draws it for a person.

        `result` is plain data, a dataclass or a pydantic model; `render` is given plain data.
        """
        self._result = (plain(result), render)

    def write(self, json_output: bool) -> None:
        """Write the result to standard output."""
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


@contextlib.contextmanager
def session(*, json_output: bool, quiet: bool) -> Iterator[Session]:
    """Run a command's work: progress on standard error, the result on standard output at the end.

    With `json_output`, whatever a library prints meanwhile is sent to standard error.
    """
    from seqloom.cli.progress import open_progress

    keep_freed_memory()
    with contextlib.ExitStack() as stack:
        if json_output:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        current = Session(stack.enter_context(open_progress(quiet=quiet)))
        yield current
    current.write(json_output)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: models as mappings, paths as strings, NaN and infinity as null."""
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
