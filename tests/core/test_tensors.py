from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from seqloom.core.errors import AssetError
from seqloom.core.tensors import as_os_error, write_tensors
from seqloom.hub.assets import report_disk_errors

FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


def test_a_view_is_written_and_read_back_and_everyone_may_read_it(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "x", {"a": matrix.T})
    assert torch.equal(load_file(tmp_path / "x")["a"], matrix.T)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


def test_what_the_disk_refuses_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_tensors(tmp_path / "nowhere" / "x", {"a": torch.ones(1)})
    assert as_os_error(SafetensorError(FULL), tmp_path).errno == errno.ENOSPC


def test_a_disk_that_fills_while_a_model_is_converted_is_explained(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="disk is full"), report_disk_errors(tmp_path):
        raise SafetensorError(FULL)
