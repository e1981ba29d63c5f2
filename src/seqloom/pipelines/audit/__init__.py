"""`audit`: proof, by making them again, that artefacts saw only what they were allowed to see.

What is held out are events: who met which item in the validation and test parts. The catalogue, ids and
texts of all its items, is known from the start. Cold items are the exception: training knows nothing of them.
"""

from seqloom.pipelines.audit.stage import audit

__all__ = ["audit"]
