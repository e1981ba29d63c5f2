"""What the endpoints of the explorer remember between requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from seqloom.serving.engine.examples import ExampleUser


@dataclass
class Trials:
    """The example users of a server, and the previews under way."""

    examples: list[ExampleUser] = field(default_factory=list)
    """Empty until they are chosen."""
    choosing: asyncio.Lock = field(default_factory=asyncio.Lock)
    previewing: asyncio.Lock = field(default_factory=asyncio.Lock)
    previews: int = 0
    """Previews that run or wait."""
