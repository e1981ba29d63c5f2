"""Turns parser errors into errors that name the damaged file; the only place that does so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqloom.core.errors import ArtefactError, ConfigError, SeqloomError

_OUR_OWN_FAULTS = (AssertionError, ImportError, NameError)
_SHOWN = 300


@contextmanager
def reading(
    path: Path, what: str, remedy: str, raises: type[SeqloomError] = ArtefactError
) -> Iterator[None]:
    """Turns any parser error within the block into `raises`, with the path and the remedy.

    Parsers raise many types of errors on damaged bytes (Arrow, Unicode, key, recursion, JSON, YAML,
    safetensors, pydantic). So every error is converted, except those of seqloom, which say what is wrong,
    and those that only a fault of the program raises.

    Args:
        what: what the file should be, with its article: "a run's manifest".
        remedy: what the user can do, as an instruction.

    Raises:
        SeqloomError: of type `raises`; the file is missing or cannot be read.
    """
    try:
        yield
    except ConfigError as error:
        raise raises(f"{path} is damaged: {error}; {remedy}") from None
    except SeqloomError:
        raise
    except _OUR_OWN_FAULTS:
        raise
    except FileNotFoundError:
        raise raises(f"{path} is missing; it should be {what}: {remedy}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise raises(f"{path} cannot be read as {what} ({reason}); {remedy}") from error
    except Exception as error:
        raise raises(
            f"{path} is damaged: it cannot be read as {what} ({_reason(error)}); {remedy}"
        ) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
