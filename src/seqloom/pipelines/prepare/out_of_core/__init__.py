"""`prepare` for a log that is too large for one process: pure steps over files, run by a job runner.

read      codes a file of the log and divides its events by a hash of the user (`reading`)
gather    collects all events of a bucket of users, sorts them and handles duplicates (`gathering`)
core      rounds of the k-core: each bucket counts its items, the driver adds the counts (`filtering`)
survey    collects the facts that the split and the division into parts need (`filtering`)
scatter   divides a bucket's kept events into ranges of users (`filtering`)
write     writes a range of users as a part of the data set (`writing`)

Every step writes the files of a piece and then a small JSON file. A piece whose JSON file exists is
finished; so a killed worker loses only its piece, and a killed job can be resumed.
"""

from __future__ import annotations

from seqloom.pipelines.prepare.out_of_core.driver import prepare_out_of_core

__all__ = ["prepare_out_of_core"]
