"""The errors that seqloom raises deliberately, in one class hierarchy.

A message says what is wrong, what is allowed and what to do. The command line prints it without a traceback;
Python callers catch `SeqloomError` or a subclass.
"""

from __future__ import annotations


class SeqloomError(Exception):
    """Base of every error that seqloom raises deliberately."""


class ConfigError(SeqloomError):
    """An option or a configuration value is unknown, of the wrong type or out of range."""


class DataError(SeqloomError):
    """An input file or frame does not have the expected format or content."""


class ArtefactError(SeqloomError):
    """A folder that seqloom wrote is missing, damaged, of another format or of another data set."""


class LockedError(ArtefactError):
    """Another process is writing the same folder or file."""


class StorageError(SeqloomError, OSError):
    """There is no room to write a file; also an `OSError` with its number."""

    def __init__(self, number: int, reason: str, path: str, free: str) -> None:
        super().__init__(number, reason, path)
        self.free = free
        """Free space of the disk at that time, in words."""

    def __str__(self) -> str:
        return (
            f"{self.filename} could not be written: {self.strerror} ({self.free}). Nothing incomplete was "
            "left under that name. Make room and run the same command again; `train` continues from its "
            "last checkpoint with --resume"
        )


class AssetError(SeqloomError):
    """A named model or data set cannot be found, fetched or verified."""


class EmbeddingError(SeqloomError):
    """A text encoder failed or returned an invalid embedding."""


class LanguageModelError(SeqloomError):
    """A language model failed, gave no usable answer, or would exceed its budget."""


class TrainingError(SeqloomError):
    """Training cannot continue, for instance because the loss is not finite."""


class StoreError(SeqloomError):
    """The database behind a server cannot be reached or refuses a request."""


class ServingError(SeqloomError):
    """A server cannot start or cannot answer."""


class ProcessError(TrainingError):
    """Another of the processes that train together has failed or been lost."""


class EngineError(SeqloomError):
    """A cluster cannot be reached, or workers die repeatedly at the same piece of a job."""
