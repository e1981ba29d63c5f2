"""`audit`: recomputes artefacts without held-out events, to prove that none of them leaked.

Events of the validation and test parts are held out. The catalogue, with the ids and texts of all its items,
is known from the start. Cold items are the exception: training knows nothing of them.
"""

from seqloom.pipelines.audit.stage import audit

__all__ = ["audit"]
