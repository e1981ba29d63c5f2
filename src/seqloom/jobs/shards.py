"""One of n equal shares of a job, known by two numbers, so that any scheduler can hand them out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from seqloom.core.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 0) of `count`."""

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
        """Read `i/n`.

        Raises:
            ConfigError: it is not of that form, or there is no such shard.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None:
            raise ConfigError(f"shard {text!r} is not of the form i/n; the first of 8 is 0/8")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def label(self) -> str:
        """As it stands in file names, which sort in the order of the shards."""
        return f"{self.index:05d}-of-{self.count:05d}"

    def of(self, total: int, block: int = 1) -> range:
        """The rows of this shard among `total`, in whole blocks of `block` rows.

        The shards of one job are contiguous, cover every row once, and differ by one block at most.
        """
        blocks = -(-total // block)
        first, last = (blocks * edge // self.count for edge in (self.index, self.index + 1))
        return range(min(first * block, total), min(last * block, total))


def every_shard(count: int) -> list[Shard]:
    """All shards of a job of `count`."""
    return [Shard(index, count) for index in range(count)]
