"""Writing tensors so that a full disk is an OSError like any other."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError

if TYPE_CHECKING:
    from torch import Tensor

_MARKED_AT_ONCE = 1 << 20
_SEAL = "seal"


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    sealed: bool = False,
) -> None:
    """Write a safetensors file that everyone may read (the library makes it private).

    Args:
        sealed: keep a hash of tensors and metadata in the header, by which `read_tensors` sees any change:
            for files that no manifest knows.

    Raises:
        OSError: the disk is full or cannot be written to.
    """
    from safetensors.torch import save_file

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    about = dict(metadata or {})
    if sealed:
        about[_SEAL] = _digest(contiguous, about)
    try:
        save_file(contiguous, path, about or None)
    except SafetensorError as error:
        raise as_os_error(error, path) from error
    path.chmod(0o644)


def read_tensors(path: Path, what: str, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file; a seal is compared and left out.

    Args:
        what: what the file should be, with its article.
        remedy: what the user can do.

    Raises:
        ArtefactError: the file is missing, damaged or was changed since it was written.
    """
    from safetensors import safe_open

    with reading(path, what, remedy), safe_open(path, framework="pt") as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        about = dict(handle.metadata() or {})
    seal = about.pop(_SEAL, "")
    if seal and seal != _digest(tensors, about):
        raise ArtefactError(
            f"{path} was damaged or changed since it was written: its header says SHA-256 {seal[:12]}, its "
            f"tensors have another; {remedy}"
        )
    return tensors, about


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and values, and over the metadata."""
    import torch

    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensor_fingerprints(state: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Two numbers for each tensor by which it is known again, up to rounding: its norm, and a sum with
    weights that no exchange of values leaves as it is."""
    import torch

    marks = {}
    for name, tensor in state.items():
        norm = weighted = 0.0
        for number, part in enumerate(tensor.detach().cpu().flatten().split(_MARKED_AT_ONCE)):
            values = part.double()
            places = torch.arange(len(values), dtype=torch.float64) + number
            norm += float(values.square().sum())
            weighted += float(values @ torch.cos(places))
        marks[name] = [norm**0.5, weighted]
    return marks


def differing_tensors(
    kept: Mapping[str, list[float]], made: Mapping[str, list[float]]
) -> list[str]:
    """Names whose marks (`tensor_fingerprints`) differ by more than rounding, or that one side lacks."""
    wrong = sorted(kept.keys() ^ made.keys())
    for name in kept.keys() & made.keys():
        scale = max(abs(kept[name][0]), 1e-6)
        apart = max(abs(a - b) for a, b in zip(kept[name], made[name], strict=True))
        if not apart <= 1e-3 * scale:
            wrong.append(name)
    return wrong


def as_os_error(error: SafetensorError, path: Path) -> OSError:
    """The OSError behind what safetensors' writer raised; it only tells the number in its text."""
    found = re.search(r"os error (\d+)", str(error))
    number = int(found.group(1)) if found else errno.EIO
    return OSError(number, os.strerror(number), str(path))
