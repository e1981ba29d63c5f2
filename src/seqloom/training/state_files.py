"""Named tensors on disk: one safetensors file, or a folder with one file of rows per process.

The headers of a folder's files say which rows they hold, so any number of processes can read the files of
any other number.

Source: `torch.distributed.checkpoint`, in its safetensors format.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError, ProcessError
from seqloom.core.files import read_json, sha256_file, write_json
from seqloom.distributed.dtensors import shard_like
from seqloom.distributed.processes import Processes

_COUNT = "files.json"
_HASHES = "hashes.json"
REMEDY = "train again with --overwrite"


def write_hashes(folder: Path) -> None:
    """Writes the SHA-256 of every file of a complete folder to a file in it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    hashes = {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}
    write_json(folder / _HASHES, hashes, sealed=True)


def check_hashes(folder: Path) -> None:
    """Compares the files of `folder` with their hashes; a folder of seqloom 0.1 has none and passes.

    Raises:
        ArtefactError: a file is missing, damaged or was changed.
    """
    if not (folder / _HASHES).exists():
        return
    hashes: dict[str, str] = read_json(folder / _HASHES, "checkpoint")
    for name, expected in hashes.items():
        file = folder / name
        with reading(file, "a file of a checkpoint", REMEDY):
            actual = sha256_file(file)
        if actual != expected:
            raise ArtefactError(
                f"{file} was damaged or changed since it was written: it has SHA-256 {actual[:12]}, expected "
                f"{expected[:12]}; put it back, or {REMEDY}"
            )


def write_rows(folder: Path, state: Mapping[str, Tensor], processes: Processes) -> None:
    """Writes the rows of sharded tensors of each process into `folder`; whole tensors are written once.

    Raises:
        ProcessError: a process could not write its part.
    """
    import torch.distributed.checkpoint as dcp

    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save({name: value.detach() for name, value in state.items()}, storage_writer=writer)
    except dcp.CheckpointException as error:
        raise ProcessError(f"{folder} could not be written: {error}") from None
    if processes.rank == 0:
        write_json(folder / _COUNT, len([*folder.glob("*.safetensors")]))


def read_state(path: Path, like: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
    """Reads the tensors of `path`: a folder of `write_rows`, or a file of that name with a suffix.

    A tensor with the shape of `like(name)` is sharded as that one is.

    Raises:
        ArtefactError: neither exists, or it is damaged.
    """
    if path.is_dir():
        return _read_rows(path, like)
    return {
        name: shard_like(value, _of_shape(like(name), value.shape))
        for name, value in read_whole(path.with_suffix(".safetensors")).items()
    }


def read_whole(file: Path) -> dict[str, Tensor]:
    """Reads the tensors of a file.

    Raises:
        ArtefactError: it is missing or damaged.
    """
    with reading(file, "the tensors of a checkpoint", REMEDY):
        return load_file(file)


def _read_rows(folder: Path, like: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
    import torch.distributed.checkpoint as dcp

    written, present = (
        read_json(folder / _COUNT, "checkpoint"),
        len([*folder.glob("*.safetensors")]),
    )
    if present != written:
        raise ArtefactError(
            f"{folder} holds {present} safetensors files of the {written} that were written; put the others "
            "back, or train again"
        )
    with reading(folder, "the tensors of a checkpoint", REMEDY):
        reader = dcp.HuggingFaceStorageReader(str(folder))
        kinds: dict[str, Any] = reader.read_metadata().state_dict_metadata  # all of them tensors
        state = {}
        for name, kind in kinds.items():
            model = _of_shape(like(name), kind.size)
            empty = torch.empty(kind.size, dtype=kind.properties.dtype)
            state[name] = empty if model is None else torch.zeros_like(model.detach())
        with warnings.catch_warnings():  # one process reads the files of several
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            try:
                dcp.load(state, storage_reader=reader)
            except dcp.CheckpointException as error:  # its base class is not Exception
                raise ValueError(str(error)) from error
    return state


def _of_shape(tensor: Tensor | None, shape: torch.Size) -> Tensor | None:
    return tensor if tensor is not None and tensor.shape == shape else None
