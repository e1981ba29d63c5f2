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


def as_os_error(error: SafetensorError, path: Path) -> OSError:
    """The OSError behind what safetensors' writer raised; it only tells the number in its text."""
    found = re.search(r"os error (\d+)", str(error))
    number = int(found.group(1)) if found else errno.EIO
    return OSError(number, os.strerror(number), str(path))
