"""Explanations of the engine in words."""

from __future__ import annotations

from collections.abc import Callable

from seqloom.llm.explaining.evidence import Evidence
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import Explanation

Titles = Callable[[ServedModel, str], str | None]


def evidence_of(explanation: Explanation, titles: Titles) -> Evidence:
    """Collects what an explanation measured, by titles."""
    served = explanation.served
    return Evidence.of(
        titles(served, explanation.item_id),
        explanation.rank,
        [(titles(served, each.item_id), each.change) for each in explanation.history],
        {name: part.share for name, part in explanation.views.items()},
    )
