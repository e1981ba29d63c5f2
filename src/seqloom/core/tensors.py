"""Reads and writes safetensors files; a full disk is an OSError, as for other files."""

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

_CHUNK = 1 << 20
_SEAL = "seal"


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    sealed: bool = False,
) -> None:
    """Writes a safetensors file that all users may read (the library makes it private).

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
    """Reads the tensors and the metadata of a safetensors file; verifies and removes its seal.

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
    """Computes a SHA-256 over names, types, shapes, values and metadata."""
    import torch

    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensor_fingerprints(state: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Computes two numbers for each tensor that identify it up to rounding: its norm, and a weighted sum
    that changes when values are swapped."""
    import torch

    fingerprints = {}
    for name, tensor in state.items():
        norm = weighted = 0.0
        for number, part in enumerate(tensor.detach().cpu().flatten().split(_CHUNK)):
            values = part.double()
            places = torch.arange(len(values), dtype=torch.float64) + number
            norm += float(values.square().sum())
            weighted += float(values @ torch.cos(places))
        fingerprints[name] = [norm**0.5, weighted]
    return fingerprints


def differing_tensors(
    first: Mapping[str, list[float]], second: Mapping[str, list[float]]
) -> list[str]:
    """Returns names whose fingerprints differ by more than rounding, or that one side lacks."""
    names = sorted(first.keys() ^ second.keys())
    for name in first.keys() & second.keys():
        scale = max(abs(first[name][0]), 1e-6)
        distance = max(abs(a - b) for a, b in zip(first[name], second[name], strict=True))
        if not distance <= 1e-3 * scale:
            names.append(name)
    return names


def as_os_error(error: SafetensorError, path: Path) -> OSError:
    """Returns the OSError behind an error of safetensors' writer, whose text holds its number."""
    match = re.search(r"os error (\d+)", str(error))
    number = int(match.group(1)) if match else errno.EIO
    return OSError(number, os.strerror(number), str(path))
