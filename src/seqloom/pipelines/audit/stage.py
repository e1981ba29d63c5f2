"""The order of an audit: the data set, its embeddings, then the run and its evaluations."""

from __future__ import annotations

from pathlib import Path

from seqloom.core.errors import ArtefactError
from seqloom.core.files import read_json
from seqloom.core.progress import SILENT, Progress
from seqloom.data.store import Dataset
from seqloom.pipelines.audit.dataset import check_dataset
from seqloom.pipelines.audit.evaluations import check_evaluations
from seqloom.pipelines.audit.hashes import check_dataset_files, check_run_files
from seqloom.pipelines.audit.report import Audit, Check, Checks
from seqloom.pipelines.audit.run import check_catalogue, check_run
from seqloom.pipelines.audit.stored import hashes, keep
from seqloom.pipelines.audit.text import check_embeddings
from seqloom.runs.folder import load_run
from seqloom.text.store import text_names


def audit(
    path: str | Path,
    *,
    dataset: Dataset | str | Path | None = None,
    encode: bool = True,
    thorough: bool = False,
    known: dict[str, list[Check]] | None = None,
    progress: Progress = SILENT,
) -> Audit:
    """Make what was derived from a data set, or used by a run, again without the held-out events.

    The result is kept in the folder as `audit.json`; a report shows it.

    Args:
        path: a prepared data set or a run; of a run its data set is audited too.
        dataset: where the run's data set is now.
        encode: whether a sample of texts goes through the encoder again.
        thorough: whether textual IDs are made again however large the catalogue is.
        known: the checks of data sets that were made already, by folder; of several runs the data set
            is audited once.

    Raises:
        ArtefactError: the path is neither, or the run's data set is gone or another one.
    """
    path = Path(path)
    raw = read_json(path / "manifest.json", "prepared data set or run")
    kind = raw.get("format") if isinstance(raw, dict) else None
    checks = Checks()
    known = {} if known is None else known
    if kind == "seqloom-dataset":
        _check_data(Dataset.load(path), checks, encode, known, progress)
        return _kept(checks.report(str(path), "data set", hashes(path)), path, progress)
    if kind != "seqloom-run":
        raise ArtefactError(f"{path} is neither a prepared data set nor a run")
    run = load_run(path)
    data = dataset if isinstance(dataset, Dataset) else run.dataset(dataset, with_cold=True)
    _check_data(data, checks, encode, known, progress)
    check_run_files(run, checks)
    check_catalogue(run, data, checks)
    check_run(run, data.warm, checks, thorough=thorough, progress=progress)
    check_evaluations(run, data, checks, thorough=thorough, progress=progress)
    return _kept(checks.report(str(path), "run", hashes(path)), path, progress)


def _kept(found: Audit, path: Path, progress: Progress) -> Audit:
    keep(found, path, progress)
    return found


def _check_data(
    data: Dataset, checks: Checks, encode: bool, known: dict[str, list[Check]], progress: Progress
) -> None:
    where = str(data.path.resolve())
    if where in known:
        checks.made += known[where]
        return
    check_dataset_files(data, checks)
    check_dataset(data, checks)
    for name in text_names(data):
        progress.note(f"auditing the embeddings {name!r}")
        check_embeddings(data, name, checks, encode=encode, progress=progress)
    known[where] = list(checks.made)
