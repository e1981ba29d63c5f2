"""Audits the data set, its embeddings, then the run and its evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqloom.core.errors import ArtefactError
from seqloom.core.files import read_json
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.data.order_checks import OrderCheck
from seqloom.data.store import Dataset
from seqloom.pipelines.audit.dataset import check_dataset
from seqloom.pipelines.audit.evaluations import check_evaluations
from seqloom.pipelines.audit.hashes import check_dataset_files, check_run_files
from seqloom.pipelines.audit.order import check_order
from seqloom.pipelines.audit.report import Audit, Check, Checks
from seqloom.pipelines.audit.run import check_catalogue, check_run
from seqloom.pipelines.audit.stored import hash_audited_files, store_audit
from seqloom.pipelines.audit.text import check_embeddings
from seqloom.runs.folder import load_run
from seqloom.text.store import text_names


@dataclass(frozen=True)
class DataAudit:
    """The checks of one data set."""

    checks: list[Check]
    order: list[OrderCheck]


@public_function()
def audit(
    path: str | Path,
    *,
    dataset: Dataset | str | Path | None = None,
    encode: bool = True,
    thorough: bool = False,
    known: dict[str, DataAudit] | None = None,
    progress: Progress = AUTO,
) -> Audit:
    """Recomputes without held-out events what was derived from a data set or used by a run.

    Also checks whether the events are in the order of time (`Audit.order`). Its warnings do not fail the
    audit; sequences that are sorted by item id do, unless the data set was prepared with `allow_sorted`.

    Writes the result into the folder as `audit.json`, which reports show.

    Args:
        path: a prepared data set, or a run, whose data set is audited too.
        dataset: the present folder of the run's data set.
        encode: whether to encode a sample of texts again.
        thorough: whether to make textual IDs again for a catalogue of any size.
        known: earlier checks of data sets by folder, so that several runs share the audit of theirs.

    Raises:
        ArtefactError: the path is neither, or the run's data set is missing or another one.
    """
    path = Path(path)
    raw = read_json(path / "manifest.json", "prepared data set or run")
    kind = raw.get("format") if isinstance(raw, dict) else None
    checks = Checks()
    known = {} if known is None else known
    if kind == "seqloom-dataset":
        _check_data(Dataset.load(path), checks, encode, known, progress)
        return _store(
            checks.report(str(path), "data set", hash_audited_files(path)), path, progress
        )
    if kind != "seqloom-run":
        raise ArtefactError(f"{path} is neither a prepared data set nor a run")
    run = load_run(path)
    data = dataset if isinstance(dataset, Dataset) else run.dataset(dataset, with_cold=True)
    _check_data(data, checks, encode, known, progress)
    check_run_files(run, checks)
    check_catalogue(run, data, checks)
    check_run(run, data.warm, checks, thorough=thorough, progress=progress)
    check_evaluations(run, data, checks, thorough=thorough, progress=progress)
    return _store(checks.report(str(path), "run", hash_audited_files(path)), path, progress)


def _store(report: Audit, path: Path, progress: Progress) -> Audit:
    store_audit(report, path, progress)
    return report


def _check_data(
    data: Dataset, checks: Checks, encode: bool, known: dict[str, DataAudit], progress: Progress
) -> None:
    where = str(data.path.resolve())
    if where in known:
        checks.made += known[where].checks
        checks.order += known[where].order
        return
    check_dataset_files(data, checks)
    check_dataset(data, checks)
    for name in text_names(data):
        progress.note(f"auditing the embeddings {name!r}")
        check_embeddings(data, name, checks, encode=encode, progress=progress)
    checks.order += check_order(data, progress=progress)
    _judge_order(checks)
    known[where] = DataAudit(list(checks.made), list(checks.order))


def _judge_order(checks: Checks) -> None:
    """Adds a check that fails where the sequences are sorted by item id."""
    wrong = [check.sentence for check in checks.order if check.verdict == "error"]
    checks.judge(
        "order of the events",
        "all events",
        not wrong,
        good="the sequences are not sorted by item id, or were accepted as they are",
        bad="; ".join(wrong),
        action="prepare the original log with its times, or prepare it with allow_sorted",
    )
