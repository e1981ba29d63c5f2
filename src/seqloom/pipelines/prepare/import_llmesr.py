"""`import-llmesr`: the files that the authors of LLM-ESR publish, to a prepared data set."""

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
from seqloom.core.progress import SILENT, Progress
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
    """What `import-llmesr` made."""

    dataset: str
    items: int
    users: int
    events: int
    text: str
    """Name of the embeddings of items and users; the default ones of the data set."""
    width: int
    components: str | None
    """Name of the embeddings made from the principal components, if they were there."""
    similar_users: int
    """Similar users of each user; 0 where the file was not there."""
    missing: list[str]
    """Files that were not there."""


@dataclass(frozen=True)
class _Matrix:
    """A matrix of the folder, its rows in the data set's order."""

    rows: Tensor
    sha256: str
    file: str


def import_llmesr(
    folder: str | Path,
    out: str | Path,
    *,
    items: Any = None,
    name: str = "handled",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ImportSummary:
    """Make a data set and its embeddings from a `handled` folder of the LLM-ESR repository.

    `inter.txt` has a line `user item` an event, in the order of time, both counted from 1. Row i of
    `itm_emb_np.pkl` and of `pca64_itm_emb_np.pkl` is item i + 1, row u of `usr_emb_np.pkl` is user
    u + 1, and `sim_user_100.pkl` holds row numbers. Nothing is filtered; the split is leave-one-out. The
    components become embeddings of their own, `<name>-pca64`. `items` is a table of texts, as for
    `prepare`. Pickles are read without being run.

    Raises:
        DataError: `inter.txt` or the item embeddings are not there, a file is damaged or no array of
            numbers, or files do not fit together. Nothing is written then.
        ArtefactError: `out` exists and `overwrite` is false.
    """
    folder, out = Path(folder), Path(out)
    store.check_name(name)
    for needed in (INTERACTIONS, ITEMS):
        if not (folder / needed).is_file():
            raise DataError(
                f"{folder} has no {needed}; give the folder `handled` of LLM-ESR's data"
            )
    there = [file for file in (USERS, COMPONENTS, SIMILAR) if (folder / file).is_file()]
    options = PrepareOptions(
        format="csv", separator=" ", header=False, user_column="1", item_column="2", min_count=0
    )
    with atomic_folder(out, overwrite=overwrite) as work:
        matrices = {file: _read(folder / file) for file in (ITEMS, *there)}
        made = prepare(
            folder / INTERACTIONS,
            work,
            items=items,
            options=options,
            overwrite=True,  # of the empty folder
            progress=progress,
        )
        summary = _add_text(made, matrices, folder, name, progress)
    return summary.model_copy(update={"dataset": str(out)})


def _add_text(
    made: Dataset,
    matrices: dict[str, np.ndarray[Any, Any]],
    folder: Path,
    name: str,
    progress: Progress,
) -> ImportSummary:
    item_rows = _row_numbers(made.item_ids, "item", folder)
    user_rows = _row_numbers(made.user_ids, "user", folder)
    found: dict[str, _Matrix] = {}
    for file, rows in ((ITEMS, item_rows), (COMPONENTS, item_rows), (USERS, user_rows)):
        if file in matrices:
            found[file] = _in_order(matrices[file], rows, folder / file, progress)
    embeddings = _write(made, name, found[ITEMS], found.get(USERS))
    store.mark_default(made, name)
    components = None
    if COMPONENTS in found:
        components = f"{name}-pca64"
        _write(made, components, found[COMPONENTS], None)
    similar = 0
    if SIMILAR in matrices:
        if USERS not in matrices:
            raise DataError(f"{folder} has {SIMILAR} but no {USERS}, which it was made from")
        neighbours = _similar(matrices[SIMILAR], user_rows, folder / SIMILAR)
        write_similar_users(embeddings, neighbours, saw=f"{_SAW} ({SIMILAR})")
        similar = neighbours.shape[1]
    missing = [file for file in (USERS, COMPONENTS, SIMILAR) if file not in matrices]
    for file in missing:
        progress.note(f"{folder} has no {file}")
    return ImportSummary(
        dataset=str(made.path),
        items=made.num_items,
        users=made.num_users,
        events=len(made.events.items),
        text=name,
        width=found[ITEMS].rows.shape[1],
        components=components,
        similar_users=similar,
        missing=missing,
    )


def _read(path: Path) -> np.ndarray[Any, Any]:
    array = read_pickled_array(path)
    if array.ndim != 2 or not array.size:
        raise DataError(f"{path} holds an array of shape {array.shape}; a matrix is needed")
    if path.name != SIMILAR and array.dtype.kind != "f":
        raise DataError(f"{path} holds {array.dtype} values; embeddings are fractions")
    if not np.isfinite(array).all():
        raise DataError(f"{path} holds NaN or infinity")
    return array


def _row_numbers(ids: list[str], what: str, folder: Path) -> np.ndarray[Any, Any]:
    """The row, in the authors' files, of each id of the data set. Shapes: -> [rows] int64."""
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
        progress.warn(f"{path}: {len(matrix) - len(rows)} rows belong to nothing in {INTERACTIONS}")
    ordered = torch.from_numpy(matrix[rows].astype(np.float32))
    return _Matrix(ordered, sha256_file(path), path.name)


def _similar(matrix: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], path: Path) -> Tensor:
    """The similar users by the data set's numbers. Shapes: -> [U, k] int64."""
    if matrix.dtype.kind not in "iu" or len(matrix) <= int(rows.max()):
        raise DataError(
            f"{path} is a {matrix.dtype} matrix of {len(matrix)} rows; whole numbers and "
            f"{int(rows.max()) + 1} rows or more are needed"
        )
    number = np.full(len(matrix), -1, dtype=np.int64)
    number[rows] = np.arange(len(rows))
    chosen = matrix[rows].astype(np.int64)
    if chosen.min() < 0 or chosen.max() >= len(matrix) or (number[chosen] < 0).any():
        raise DataError(f"{path} names users that {INTERACTIONS} has not")
    own = number[chosen] == np.arange(len(rows))[:, None]
    if own.any():
        raise DataError(
            f"{path}: {int(own.sum())} users are similar to themselves; they may not be"
        )
    return torch.from_numpy(number[chosen])


def _write(made: Dataset, name: str, items: _Matrix, users: _Matrix | None) -> Path:
    manifest = TextManifest(
        seqloom=__version__,
        name=name,
        dataset=made.fingerprint,
        encoder={"kind": "imported", "from": "LLM-ESR's handled files"},
        width=items.rows.shape[1],
        items=_part(items),
        users=_part(users) if users else None,
    )
    rows = users.rows if users else None
    return store.write_embeddings(made, manifest, items.rows, rows).path


def _part(matrix: _Matrix) -> PartManifest:
    return PartManifest(
        rows=len(matrix.rows),
        template=None,
        saw=f"{_SAW} ({matrix.file})",
        content_hash=matrix.sha256,
    )
