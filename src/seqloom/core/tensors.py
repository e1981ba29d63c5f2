"""Writing tensors so that a full disk is an OSError like any other."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

if TYPE_CHECKING:
    from torch import Tensor

_MARKED_AT_ONCE = 1 << 20


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file that everyone may read (the library makes it private).

    Raises:
        OSError: the disk is full or cannot be written to.
    """
    from safetensors.torch import save_file

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, path, dict(metadata) if metadata else None)
    except SafetensorError as error:
        raise as_os_error(error, path) from error
    path.chmod(0o644)


def tensor_marks(state: Mapping[str, Tensor]) -> dict[str, list[float]]:
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


def unlike_marks(kept: Mapping[str, list[float]], made: Mapping[str, list[float]]) -> list[str]:
    """Names whose marks (`tensor_marks`) differ by more than rounding, or that one side lacks."""
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
