"""Checks that the files of a data set or a run are those that were written, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seqloom.core.errors import ArtefactError
from seqloom.core.records import FileRecord, check_file
from seqloom.data.parts import REMEDY
from seqloom.data.store import Dataset
from seqloom.pipelines.audit.report import Checks
from seqloom.runs.folder import Run
from seqloom.runs.run_files import REMEDY as TRAIN_AGAIN

_SAW = "what was written"


def check_dataset_files(data: Dataset, checks: Checks) -> None:
    """Hashes the whole files of a data set; opening one hashes only samples of large files."""
    _check("files of the data set", data.path, data.manifest.files, REMEDY, checks)


def check_run_files(run: Run, checks: Checks) -> None:
    """Hashes the whole files of a run, except those that opening it has hashed."""
    _check("files of the run", run.path, run.manifest.records, TRAIN_AGAIN, checks)


def _check(
    what: str, folder: Path, records: Mapping[str, FileRecord], remedy: str, checks: Checks
) -> None:
    if not records:
        checks.unknown(what, _SAW, "an older seqloom made the folder and kept no hashes", remedy)
        return
    wrong = []
    for name in records:
        try:
            check_file(folder, name, records, remedy, whole=True)
        except ArtefactError as error:
            wrong.append(str(error))
    checks.judge(
        what,
        _SAW,
        not wrong,
        good=f"{len(records)} files have the hashes of the manifest",
        bad="; ".join(wrong[:3]),
        action=remedy,
    )
