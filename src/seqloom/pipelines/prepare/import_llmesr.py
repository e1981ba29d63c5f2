"""`import-llmesr`: makes a prepared data set from the files that the authors of LLM-ESR publish."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqloom._version import __version__
from seqloom.core.config import Config
from seqloom.core.errors import DataError
from seqloom.core.files import atomic_folder, sha256_file
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.data.pickled_arrays import read_pickled_array
from seqloom.data.store import Dataset
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.text import store
from seqloom.text.similar_users import write_similar_users
from seqloom.text.store import PartManifest, TextManifest

INTERACTIONS = "inter.txt"
ITEMS = "itm_emb_np.pkl"
USERS = "usr_emb_np.pkl"
COMPONENTS = "pca64_itm_emb_np.pkl"
SIMILAR = "sim_user_100.pkl"
_SAW = f"{store.UNKNOWN_SOURCE}: imported, made by the authors of the file"


class ImportSummary(Config):
    """The result of `import-llmesr`."""

    dataset: str
    items: int
    users: int
    events: int
    text: str
    """Name of the embeddings of items and users; the default ones of the data set."""
    width: int
    components: str | None
    """Name of the embeddings made from the principal components; None if their file is missing."""
    similar_users: int
    """Number of similar users of each user; 0 if their file is missing."""
    missing: list[str]
    """Missing optional files."""


@dataclass(frozen=True)
class _Matrix:
    """A matrix of the folder, with rows in the order of the data set."""

    rows: Tensor
    sha256: str
    file: str


@public_function()
def import_llmesr(
    folder: str | Path,
    out: str | Path,
    *,
    items: Any = None,
    name: str = "handled",
    overwrite: bool = False,
    progress: Progress = AUTO,
) -> ImportSummary:
    """Makes a data set and its embeddings from a `handled` folder of the LLM-ESR repository.

    `inter.txt` has a line `user item` per event, in the order of time, both counted from 1. Row i of
    `itm_emb_np.pkl` and of `pca64_itm_emb_np.pkl` is item i + 1, row u of `usr_emb_np.pkl` is user
    u + 1, and `sim_user_100.pkl` holds row numbers. No event is filtered out; the split is leave-one-out.
    The components become embeddings with the name `<name>-pca64`. `items` is a table of texts, as for
    `prepare`. Pickles are read without running their code.

    Raises:
        DataError: `inter.txt` or the item embeddings are missing, a file is damaged or not an array of
            numbers, or the files do not fit together. Nothing is written then.
        ArtefactError: `out` exists and `overwrite` is false.
    """
    folder, out = Path(folder), Path(out)
    store.check_name(name)
    for needed in (INTERACTIONS, ITEMS):
        if not (folder / needed).is_file():
            raise DataError(
                f"{folder} has no {needed}; give the path of the folder `handled` of LLM-ESR's data"
            )
    there = [file for file in (USERS, COMPONENTS, SIMILAR) if (folder / file).is_file()]
    options = PrepareOptions(
        format="csv",
        separator=" ",
        header=False,
        user_column="1",
        item_column="2",
        min_count=0,
        allow_sorted=True,  # a warning: the authors' order is kept whatever it is
    )
    with atomic_folder(out, overwrite=overwrite) as work:
        matrices = {file: _read(folder / file) for file in (ITEMS, *there)}
        dataset = prepare(
            folder / INTERACTIONS,
            work,
            items=items,
            options=options,
            overwrite=True,  # of the empty folder
            progress=progress,
        )
        summary = _add_text(dataset, matrices, folder, name, progress)
    return summary.model_copy(update={"dataset": str(out)})


def _add_text(
    dataset: Dataset,
    matrices: dict[str, np.ndarray[Any, Any]],
    folder: Path,
    name: str,
    progress: Progress,
) -> ImportSummary:
    item_rows = _row_numbers(dataset.item_ids, "item", folder)
    user_rows = _row_numbers(dataset.user_ids, "user", folder)
    embeddings: dict[str, _Matrix] = {}
    for file, rows in ((ITEMS, item_rows), (COMPONENTS, item_rows), (USERS, user_rows)):
        if file in matrices:
            embeddings[file] = _in_order(matrices[file], rows, folder / file, progress)
    path = _write(dataset, name, embeddings[ITEMS], embeddings.get(USERS))
    store.mark_default(dataset, name)
    components = None
    if COMPONENTS in embeddings:
        components = f"{name}-pca64"
        _write(dataset, components, embeddings[COMPONENTS], None)
    similar = 0
    if SIMILAR in matrices:
        if USERS not in matrices:
            raise DataError(
                f"{folder} has {SIMILAR} but not {USERS}, from which it was made; add {USERS}, or remove "
                f"{SIMILAR}"
            )
        neighbours = _similar(matrices[SIMILAR], user_rows, folder / SIMILAR)
        write_similar_users(path, neighbours, saw=f"{_SAW} ({SIMILAR})")
        similar = neighbours.shape[1]
    missing = [file for file in (USERS, COMPONENTS, SIMILAR) if file not in matrices]
    for file in missing:
        progress.note(f"{folder} has no {file}")
    return ImportSummary(
        dataset=str(dataset.path),
        items=dataset.num_items,
        users=dataset.num_users,
        events=len(dataset.events.items),
        text=name,
        width=embeddings[ITEMS].rows.shape[1],
        components=components,
        similar_users=similar,
        missing=missing,
    )


def _read(path: Path) -> np.ndarray[Any, Any]:
    array = read_pickled_array(path)
    if array.ndim != 2 or not array.size:
        raise DataError(f"{path} holds an array of shape {array.shape}, but a matrix is needed")
    if path.name != SIMILAR and array.dtype.kind != "f":
        raise DataError(
            f"{path} holds {array.dtype} values, but embeddings are floating-point numbers"
        )
    if not np.isfinite(array).all():
        raise DataError(f"{path} holds NaN or infinity")
    return array


def _row_numbers(ids: list[str], what: str, folder: Path) -> np.ndarray[Any, Any]:
    """Returns the row of each id of the data set in the authors' files. Shapes: -> [rows] int64."""
    wrong = next((one for one in ids if not one.isdecimal() or int(one) < 1), None)
    if wrong is not None:
        raise DataError(
            f"{folder / INTERACTIONS} has the {what} {wrong!r}; LLM-ESR's files count from 1"
        )
    return np.array([int(one) - 1 for one in ids], dtype=np.int64)


def _in_order(
    matrix: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], path: Path, progress: Progress
) -> _Matrix:
    if int(rows.max()) >= len(matrix):
        raise DataError(
            f"{path} has {len(matrix)} rows, but {INTERACTIONS} goes up to {int(rows.max()) + 1}; "
            "the files are not of one data set"
        )
    if len(rows) < len(matrix):
        progress.warn(
            f"{path}: {len(matrix) - len(rows)} rows are unused: their numbers are not in {INTERACTIONS}"
        )
    ordered = torch.from_numpy(matrix[rows].astype(np.float32))
    return _Matrix(ordered, sha256_file(path), path.name)


def _similar(matrix: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], path: Path) -> Tensor:
    """Converts similar users to the data set's user numbers. Shapes: -> [U, k] int64."""
    if matrix.dtype.kind not in "iu" or len(matrix) <= int(rows.max()):
        raise DataError(
            f"{path} is a {matrix.dtype} matrix of {len(matrix)} rows, but integers and at least "
            f"{int(rows.max()) + 1} rows are needed"
        )
    number = np.full(len(matrix), -1, dtype=np.int64)
    number[rows] = np.arange(len(rows))
    chosen = matrix[rows].astype(np.int64)
    if chosen.min() < 0 or chosen.max() >= len(matrix) or (number[chosen] < 0).any():
        raise DataError(
            f"{path} names users that are not in {INTERACTIONS}; the files are not of one data set"
        )
    own = number[chosen] == np.arange(len(rows))[:, None]
    if own.any():
        raise DataError(
            f"{path} lists {int(own.sum())} users as similar to themselves, which is not allowed"
        )
    return torch.from_numpy(number[chosen])


def _write(dataset: Dataset, name: str, items: _Matrix, users: _Matrix | None) -> Path:
    manifest = TextManifest(
        seqloom=__version__,
        name=name,
        dataset=dataset.fingerprint,
        encoder={"kind": "imported", "from": "LLM-ESR's handled files"},
        width=items.rows.shape[1],
        items=_part(items),
        users=_part(users) if users else None,
    )
    rows = users.rows if users else None
    return store.write_embeddings(dataset, manifest, items.rows, rows).path


def _part(matrix: _Matrix) -> PartManifest:
    return PartManifest(
        rows=len(matrix.rows),
        template=None,
        saw=f"{_SAW} ({matrix.file})",
        content_hash=matrix.sha256,
    )
