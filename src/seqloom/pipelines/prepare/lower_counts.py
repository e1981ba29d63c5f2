"""Small data: what lower bounds of the k-core would keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqloom.core.errors import DataError
from seqloom.core.progress import Progress
from seqloom.data.filters import Log, k_core
from seqloom.pipelines.prepare.options import PrepareOptions

_MOST_EVENTS = 5_000_000
"""Longer logs lose few events to a k-core, and cost seconds for each bound."""
_LITTLE = 0.5
"""Share of the events from which on a core is not reported."""


def report_small_core(
    log: Log,
    kept: np.ndarray,
    name: str,
    counts: Sequence[str],
    options: PrepareOptions,
    progress: Progress,
) -> None:
    """Reports what lower bounds would keep, where the k-core keeps less than half of the events.

    Args:
        kept: [events] bool, the core of the options.
        counts: the events after each step, in words.

    Raises:
        DataError: the core is empty.
    """
    share = float(kept.mean())
    if share >= _LITTLE or len(log) > _MOST_EVENTS:
        return
    offers = _offers(log, options)
    if share > 0:
        if offers:
            progress.note(f"min_count keeps {share:.0%} of the events; {'; '.join(offers)}")
        return
    user, item = options.core
    advice = "; ".join(offers) if offers else "no lower bound keeps a user with three events"
    raise DataError(
        f"{name} is empty after filtering ({', '.join(counts)}, 0 after k-core): no user has {user} events "
        f"with items of {item}. Lower min_count: {advice}"
    )


def _offers(log: Log, options: PrepareOptions) -> list[str]:
    """Describes what each lower `min_count` keeps, and how many users can be ranked."""
    offers = []
    for bound in range(min(max(options.core), 5) - 1, 0, -1):
        kept = k_core(log, bound, bound)
        if not kept.any():
            continue
        lengths = np.bincount(log.users[kept], minlength=len(log.user_ids))
        items = len(np.unique(log.items[kept]))
        offers.append(
            f"{bound} keeps {int(kept.sum()):,} events of {int((lengths > 0).sum()):,} users and {items:,} "
            f"items ({int((lengths >= 3).sum()):,} users with the three events that training and test need)"
        )
    return offers
