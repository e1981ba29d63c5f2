"""What a run knows of its items' popularity."""

from __future__ import annotations

from torch import Tensor

from seqloom.core.errors import ArtefactError
from seqloom.runs.folder import Run


def training_counts(run: Run) -> Tensor | None:
    """`Run.popularity`; of a run of an older seqloom from its data set, None where that is gone too.

    Shapes: -> [N].
    """
    if run.popularity is not None:
        return run.popularity
    try:
        return run.dataset().popularity[1:]
    except ArtefactError:
        return None
