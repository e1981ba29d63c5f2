"""Shards: one of n equal shares of a job, identified by two numbers that any scheduler can pass on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from seqloom.core.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 0) of `count` shares."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise ConfigError(
                f"shard {self.index}/{self.count} does not exist: shards are numbered from 0, so of "
                f"{max(self.count, 1)} the last is {max(self.count, 1) - 1}/{max(self.count, 1)}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses `i/n`.

        Raises:
            ConfigError: the text has another form, or the shard does not exist.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None:
            raise ConfigError(f"shard {text!r} is not of the form i/n; the first of 8 is 0/8")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def label(self) -> str:
        """Label in file names, which sort in the order of the shards."""
        return f"{self.index:05d}-of-{self.count:05d}"

    def of(self, total: int, block: int = 1) -> range:
        """Returns this shard's rows of `total`, in whole blocks of `block` rows.

        The shards of one job are contiguous, cover every row once, and differ by one block at most.
        """
        blocks = -(-total // block)
        first, last = (blocks * edge // self.count for edge in (self.index, self.index + 1))
        return range(min(first * block, total), min(last * block, total))


def every_shard(count: int) -> list[Shard]:
    """Returns all `count` shards of a job."""
    return [Shard(index, count) for index in range(count)]
