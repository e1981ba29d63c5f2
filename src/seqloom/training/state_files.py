"""Named tensors on disk: one safetensors file, or a folder with one of each process's rows.

The files of a folder say in their headers which rows they hold, so any number of processes can read
what any other number has written, and one can read what several have.

Source: `torch.distributed.checkpoint`, in its safetensors format.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from seqloom.core.errors import ArtefactError, ProcessError
from seqloom.core.files import read_json, write_json
from seqloom.core.processes import Processes
from seqloom.core.spread import spread_like

_COUNT = "files.json"


def write_rows(folder: Path, state: Mapping[str, Tensor], processes: Processes) -> None:
    """Write each process's rows of spread tensors into `folder`; whole ones are written once.

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
    """The tensors of `path`, a folder as of `write_rows`, or the file of that name with a suffix.

    A tensor of the shape of `like(name)` is divided as that is.

    Raises:
        ArtefactError: neither is there, or it is damaged.
    """
    if path.is_dir():
        return _read_rows(path, like)
    return {
        name: spread_like(value, _of_shape(like(name), value.shape))
        for name, value in read_whole(path.with_suffix(".safetensors")).items()
    }


def read_whole(file: Path) -> dict[str, Tensor]:
    """The tensors of a file.

    Raises:
        ArtefactError: it is missing or damaged.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{file} is missing or damaged ({error}); train again") from None


def _read_rows(folder: Path, like: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
    import torch.distributed.checkpoint as dcp

    written, found = read_json(folder / _COUNT, "checkpoint"), len([*folder.glob("*.safetensors")])
    if found != written:
        raise ArtefactError(
            f"{folder} holds {found} safetensors files of the {written} that were written; put the others "
            "back, or train again"
        )
    try:
        reader = dcp.HuggingFaceStorageReader(str(folder))
        kinds: dict[str, Any] = reader.read_metadata().state_dict_metadata  # tensors all of them
        state = {}
        for name, kind in kinds.items():
            model = _of_shape(like(name), kind.size)
            empty = torch.empty(kind.size, dtype=kind.properties.dtype)
            state[name] = empty if model is None else torch.zeros_like(model.detach())
        with warnings.catch_warnings():  # one process may read what several have written
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.load(state, storage_reader=reader)
    except (OSError, SafetensorError, dcp.CheckpointException) as error:
        raise ArtefactError(f"{folder} is damaged ({error}); train again") from None
    return state


def _of_shape(tensor: Tensor | None, shape: torch.Size) -> Tensor | None:
    return tensor if tensor is not None and tensor.shape == shape else None
