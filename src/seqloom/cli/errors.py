"""Error messages and exit codes of the command line."""

from __future__ import annotations

import json
import os
import sys
import traceback

from typer.exceptions import TyperException

from seqloom.cli.option_names import CURRENT_OPTIONS, name_current_options
from seqloom.core.errors import SeqloomError

UNEXPECTED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def report_error(error: BaseException, *, json_output: bool) -> int:
    """Reports an error and returns the exit code.

    The message goes to standard error. With `json_output` a document `{"error": {"type", "message"}}` also
    goes to standard output, so that a script always finds exactly one document there. Unexpected errors, and
    with SEQLOOM_DEBUG=1 all errors, show a traceback. Parameters of the command are named as options.
    """
    if isinstance(error, KeyboardInterrupt):
        return _report("Interrupted", _interrupted(), INTERRUPTED, json_output)
    expected = isinstance(error, SeqloomError | TyperException | OSError)
    if not expected or os.environ.get("SEQLOOM_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    kind = type(error).__name__
    if isinstance(error, TyperException):
        return _report("UsageError", _usage(error), BAD_INPUT, json_output)
    if isinstance(error, OSError):
        from seqloom.core.storage import full_disk

        error = full_disk(error) or error
        return _report(type(error).__name__, str(error), UNEXPECTED, json_output)
    if isinstance(error, SeqloomError):
        return _report(kind, name_current_options(str(error)), BAD_INPUT, json_output)
    message = f"{kind}: {error}\nThis is a bug in seqloom; please report it with the lines above."
    return _report(kind, message, UNEXPECTED, json_output)


def _interrupted() -> str:
    """Returns what happened, and how the work can go on where it can."""
    if "resume" not in CURRENT_OPTIONS.get({}):
        return "interrupted"
    return "interrupted; the same command with --resume continues from the last checkpoint"


def _usage(error: TyperException) -> str:
    message = error.format_message()
    context = getattr(error, "ctx", None)
    return f"{message}\nSee `{context.command_path} --help`." if context else message


def _report(kind: str, message: str, code: int, json_output: bool) -> int:
    from seqloom.distributed.processes import are_several

    lines = message.splitlines() or [kind]
    rank = os.environ["RANK"] if are_several(os.environ) else "0"
    prefix = "error" if rank == "0" else f"error: process {rank}"
    block = "\n".join([f"{prefix}: {lines[0]}", *(f"  {line}" for line in lines[1:])])
    print(block, file=sys.stderr, flush=True)
    if json_output and rank == "0":
        print(json.dumps({"error": {"type": kind, "message": message}}, indent=2), flush=True)
    return code
