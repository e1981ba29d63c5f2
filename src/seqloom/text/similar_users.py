"""Similar users, kept beside the embeddings that they were found by.

neighbours-<k>.safetensors                      "users" [U, k] int64, exact
neighbours-<k>-approximate-<recall>.safetensors  the same by an index that was set up for this recall

The header says what they were computed from (`saw`) and, of approximate ones, the recall measured (`recall`).
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
"""A recall that is so little below its target may be due to the sample."""


@dataclass(frozen=True)
class SimilarUsers:
    """Each user's most similar others."""

    file: Path
    users: Tensor
    """[U, k] int64 user numbers, the most similar first."""
    saw: str
    """What they were computed from."""
    recall: Recall | None
    """Of approximate ones what was measured when they were found; None where they are exact."""


def find_similar_users(
    path: Path, users: Tensor, k: int, recall: float | None, progress: Progress
) -> Tensor:
    """The similar users kept at `path`, found now where they are not kept yet.

    Where more than `k` exact ones were kept, the first `k` of them are taken.

    Args:
        recall: search approximately, by an index set up for this recall; None searches exactly.

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
    found = top_similar(users, k, progress=progress)
    write_similar_users(path, found, saw=SAW)
    return found


def write_similar_users(
    path: Path, similar: Tensor, *, saw: str, recall: Recall | None = None
) -> None:
    """Keep similar users beside the embeddings at `path`, the most similar first.

    Shapes: similar [U, k] int64 user numbers.
    """
    told = {"saw": saw}
    if recall is not None:
        told["recall"] = json.dumps(asdict(recall))
    file = _file(path, similar.shape[1], recall.target if recall else None)
    with atomic_file(file) as work:
        write_tensors(work, {"users": similar}, told, sealed=True)


def load_similar_users(path: Path) -> list[SimilarUsers]:
    """All that are kept at `path`.

    Raises:
        ArtefactError: a file is damaged.
    """
    return [read_similar_users(file) for file in sorted(path.glob("neighbours-*.safetensors"))]


def read_similar_users(file: Path) -> SimilarUsers:
    """One file of similar users.

    Raises:
        ArtefactError: it is missing or damaged.
    """
    tensors, told = read_tensors(file, "similar users", _REMEDY)
    with reading(file, "similar users", _REMEDY):
        users = tensors["users"]
        recall = Recall(**json.loads(told["recall"])) if "recall" in told else None
    return SimilarUsers(file, users, told.get("saw", ""), recall)


def _approximate(path: Path, users: Tensor, k: int, target: float, progress: Progress) -> Tensor:
    file = _file(path, k, target)
    if file.exists():
        kept = read_similar_users(file)
        if kept.recall is None:
            raise ArtefactError(f"{file} tells no recall; delete it, it is made again")
        progress.note(f"similar users, kept: {kept.recall}")
        return _checked(kept, len(users), k)
    found, measured = top_similar_approximately(users, k, target, progress=progress)
    measured = measured or Recall(1.0, k, 0, target, 0, 0)
    say = progress.note if measured.recall >= target - _SAMPLING else progress.warn
    say(f"similar users: {measured}")
    write_similar_users(path, found, saw=SAW, recall=measured)
    return found


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
    """The files of exact ones by their number of users."""
    return {
        int(told): file
        for file in path.glob("neighbours-*.safetensors")
        if (told := file.stem.removeprefix("neighbours-")).isdecimal()
    }
