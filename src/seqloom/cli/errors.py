"""What the user sees when a command fails, and the exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback

from typer.exceptions import TyperException

from seqloom.core.errors import SeqloomError
from seqloom.core.storage import full_disk
from seqloom.distributed.processes import are_several

UNEXPECTED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def report_error(error: BaseException, *, json_output: bool) -> int:
    """Tell the user what went wrong and return the exit code.

    The message goes to standard error; with `json_output` a document
    `{"error": {"type", "message"}}` goes to standard output as well, so that a script finds one
    document there whatever happens. A traceback is shown for what seqloom did not foresee, or where
    the environment has SEQLOOM_DEBUG=1.
    """
    if isinstance(error, KeyboardInterrupt):
        return _say("Interrupted", "interrupted", INTERRUPTED, json_output)
    foreseen = isinstance(error, SeqloomError | TyperException | OSError)
    if not foreseen or os.environ.get("SEQLOOM_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    kind = type(error).__name__
    if isinstance(error, TyperException):
        return _say("UsageError", _usage(error), BAD_INPUT, json_output)
    if isinstance(error, OSError):
        error = full_disk(error) or error
        return _say(type(error).__name__, str(error), UNEXPECTED, json_output)
    if isinstance(error, SeqloomError):
        return _say(kind, str(error), BAD_INPUT, json_output)
    message = f"{kind}: {error}\nThis is a fault in seqloom; please report it with the lines above."
    return _say(kind, message, UNEXPECTED, json_output)


def _usage(error: TyperException) -> str:
    message = error.format_message()
    context = getattr(error, "ctx", None)
    return f"{message}\nSee `{context.command_path} --help`." if context else message


def _say(kind: str, message: str, code: int, json_output: bool) -> int:
    lines = message.splitlines() or [kind]
    rank = os.environ["RANK"] if are_several(os.environ) else "0"
    who = "error" if rank == "0" else f"error: process {rank}"
    block = "\n".join([f"{who}: {lines[0]}", *(f"  {line}" for line in lines[1:])])
    print(block, file=sys.stderr, flush=True)
    if json_output and rank == "0":
        print(json.dumps({"error": {"type": kind, "message": message}}, indent=2), flush=True)
    return code
