"""The one tree of errors that seqloom raises on purpose.

A message says what was found, what is allowed and what to do. The command line prints it without a
traceback; a Python caller catches `SeqloomError` or the branch it cares about.
"""

from __future__ import annotations


class SeqloomError(Exception):
    """Base of every error that seqloom raises on purpose."""


class ConfigError(SeqloomError):
    """An option or a configuration value is unknown, of the wrong type or out of range."""


class DataError(SeqloomError):
    """An input file or frame cannot be read as what it is said to be."""


class ArtefactError(SeqloomError):
    """A folder that seqloom wrote is missing, damaged, of another format or of another data set."""


class LockedError(ArtefactError):
    """Another process is writing the same folder or file."""


class StorageError(SeqloomError, OSError):
    """There is no room to write a file; also an `OSError` with its number."""

    def __init__(self, number: int, reason: str, path: str, free: str) -> None:
        super().__init__(number, reason, path)
        self.free = free
        """How much room the disk had then, in words."""

    def __str__(self) -> str:
        return (
            f"{self.filename} could not be written: {self.strerror} ({self.free}). Nothing incomplete was "
            "left under that name. Make room and run the same command again; `train` continues from its "
            "last checkpoint with --resume"
        )


class AssetError(SeqloomError):
    """A named model or data set cannot be found, fetched or verified."""


class EmbeddingError(SeqloomError):
    """A text encoder failed or returned something that is no embedding."""


class TrainingError(SeqloomError):
    """Training cannot go on (for instance, the loss is not finite)."""


class StoreError(SeqloomError):
    """The database behind a server cannot be reached or refuses what is asked."""


class ServingError(SeqloomError):
    """A server cannot start, or an answer cannot be given."""


class ProcessError(TrainingError):
    """Another of the processes that train together has failed or is gone."""


class EngineError(SeqloomError):
    """A cluster cannot be reached, or its workers die at the same piece of work again and again."""
