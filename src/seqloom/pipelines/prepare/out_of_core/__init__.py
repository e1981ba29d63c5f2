"""`prepare` for a log that is too large for one process: pure steps over files, run by an engine.

read      a file of the log -> its events, coded and parted by a hash of the user (`reading`)
gather    all events of a bucket of users, in time order, repeats dealt with (`gathering`)
core      rounds of the k-core: each bucket counts its items, the driver adds up (`filtering`)
survey    what the split has to know of all users; where the parts begin (`filtering`)
scatter   a bucket's kept events, parted by ranges of users (`filtering`)
write     a range of users as a part of the data set (`writing`)

Every step of every piece leaves its files and, last of all, a small JSON file. A piece whose JSON
file is there is finished; so a killed worker costs its piece, and a killed job goes on.
"""

from __future__ import annotations

from seqloom.pipelines.prepare.out_of_core.driver import prepare_out_of_core

__all__ = ["prepare_out_of_core"]
