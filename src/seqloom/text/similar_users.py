"""Similar users, stored beside the embeddings from which they were computed.

neighbours-<k>.safetensors                      "users" [U, k] int64, exact
neighbours-<k>-approximate-<recall>.safetensors  the same, by an approximate index tuned for this recall

The header holds their source (`saw`) and, for approximate ones, the measured recall (`recall`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import atomic_file
from seqloom.core.progress import Progress
from seqloom.core.tensors import read_tensors, write_tensors
from seqloom.inference.ann_index import Recall
from seqloom.text.approximate import top_similar_approximately
from seqloom.text.neighbours import top_similar

SAW = "user embeddings"
_REMEDY = "delete it, it is made again"
_SAMPLING = 0.02
"""A recall so close below its target may be a sampling error."""


@dataclass(frozen=True)
class SimilarUsers:
    """The most similar other users of each user."""

    file: Path
    users: Tensor
    """[U, k] int64 user numbers, the most similar first."""
    saw: str
    """Their source."""
    recall: Recall | None
    """The measured recall of approximate ones; None for exact ones."""


def find_similar_users(
    path: Path, users: Tensor, k: int, recall: float | None, progress: Progress
) -> Tensor:
    """Loads the similar users stored at `path`, or computes and stores them.

    If more than `k` exact ones are stored, their first `k` are used.

    Args:
        recall: search approximately, with an index tuned for this recall; None searches exactly.

    Raises:
        ArtefactError: a file is damaged.
        ConfigError: `k` is out of range, or faiss is needed and not installed.

    Shapes: users [U, E] -> [U, k] int64.
    """
    if recall is not None:
        return _approximate(path, users, k, recall, progress)
    for number, file in sorted(_exact_files(path).items()):
        if number >= k:
            return _checked(read_similar_users(file), len(users), number)[:, :k].contiguous()
    similar = top_similar(users, k, progress=progress)
    write_similar_users(path, similar, saw=SAW)
    return similar


def write_similar_users(
    path: Path, similar: Tensor, *, saw: str, recall: Recall | None = None
) -> None:
    """Stores similar users beside the embeddings at `path`, the most similar first.

    Shapes: similar [U, k] int64 user numbers.
    """
    header = {"saw": saw}
    if recall is not None:
        header["recall"] = json.dumps(asdict(recall))
    file = _file(path, similar.shape[1], recall.target if recall else None)
    with atomic_file(file) as work:
        write_tensors(work, {"users": similar}, header, sealed=True)


def load_similar_users(path: Path) -> list[SimilarUsers]:
    """Loads all similar users stored at `path`.

    Raises:
        ArtefactError: a file is damaged.
    """
    return [read_similar_users(file) for file in sorted(path.glob("neighbours-*.safetensors"))]


def read_similar_users(file: Path) -> SimilarUsers:
    """Reads one file of similar users.

    Raises:
        ArtefactError: it is missing or damaged.
    """
    tensors, header = read_tensors(file, "similar users", _REMEDY)
    with reading(file, "similar users", _REMEDY):
        users = tensors["users"]
        recall = Recall(**json.loads(header["recall"])) if "recall" in header else None
    return SimilarUsers(file, users, header.get("saw", ""), recall)


def _approximate(path: Path, users: Tensor, k: int, target: float, progress: Progress) -> Tensor:
    file = _file(path, k, target)
    if file.exists():
        kept = read_similar_users(file)
        if kept.recall is None:
            raise ArtefactError(f"{file} does not hold its recall; {_REMEDY}")
        progress.note(f"similar users, stored: {kept.recall}")
        return _checked(kept, len(users), k)
    similar, measured = top_similar_approximately(users, k, target, progress=progress)
    measured = measured or Recall(1.0, k, 0, target, 0, 0)
    report = progress.note if measured.recall >= target - _SAMPLING else progress.warn
    report(f"similar users: {measured}")
    write_similar_users(path, similar, saw=SAW, recall=measured)
    return similar


def _checked(kept: SimilarUsers, rows: int, k: int) -> Tensor:
    users = kept.users
    if users.shape != (rows, k) or users.dtype != torch.int64:
        raise ArtefactError(
            f"{kept.file} is damaged: it holds {users.dtype} of shape {tuple(users.shape)}, expected "
            f"torch.int64 of ({rows}, {k}); {_REMEDY}"
        )
    if users.numel() and not 0 <= int(users.min()) <= int(users.max()) < rows:
        raise ArtefactError(
            f"{kept.file} is damaged: it names users outside 0 to {rows - 1}; {_REMEDY}"
        )
    return users


def _file(path: Path, k: int, target: float | None) -> Path:
    how = "" if target is None else f"-approximate-{target:g}"
    return path / f"neighbours-{k}{how}.safetensors"


def _exact_files(path: Path) -> dict[int, Path]:
    """Returns the files of exact similar users by their number k."""
    return {
        int(number): file
        for file in path.glob("neighbours-*.safetensors")
        if (number := file.stem.removeprefix("neighbours-")).isdecimal()
    }
