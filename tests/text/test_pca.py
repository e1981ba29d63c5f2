from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.text.pca import pca


def by_svd(matrix: torch.Tensor, dims: int) -> Any:
    """The same from the singular value decomposition in float64."""
    centred = matrix.double() - matrix.double().mean(dim=0)
    _, _, v = torch.linalg.svd(centred, full_matrices=False)
    for row in v:
        if row[row.abs().argmax()] < 0:
            row *= -1
    return centred @ v[:dims].T


def test_it_is_the_svd_of_the_centred_rows_with_a_fixed_sign() -> None:
    matrix = torch.randn(50, 12, generator=torch.Generator().manual_seed(0)) + 3
    assert torch.allclose(pca(matrix, 5).double(), by_svd(matrix, 5), atol=1e-5)
    assert torch.allclose(pca(-matrix, 5), -pca(matrix, 5), atol=1e-5)


def test_whitened_columns_have_variance_one_and_constant_ones_stay_zero() -> None:
    matrix = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(pca(matrix, 4, whitening=1.0).var(dim=0, correction=0), torch.ones(4))
    flat = torch.cat([matrix[:, :2], torch.ones(200, 3)], dim=1)
    assert (pca(flat, 4, whitening=1.0)[:, 2:].abs() < 1e-6).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 to 3"):
        pca(torch.zeros(10, 3), 4)
    with pytest.raises(ConfigError, match="NaN"):
        pca(torch.full((3, 3), torch.nan), 1)
