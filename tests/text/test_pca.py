from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.text.pca import pca, principal_axes


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


def test_axes_of_equal_variance_do_not_depend_on_rounding() -> None:
    # Three columns of equal variance, two that are each other's mirror, one without variance.
    eye = torch.eye(3).repeat(4, 1) * torch.tensor([1.0, -1.0]).repeat_interleave(6)[:, None]
    pair = torch.randn(12, 1, generator=torch.Generator().manual_seed(2)) * 3
    matrix = torch.cat([eye, pair, -pair, torch.ones(12, 1)], dim=1)
    expected = principal_axes(matrix, 6)
    first = expected.axes[:, 0]
    assert float(first[3]) == pytest.approx(0.5**0.5, abs=0.1)
    assert float(first[3]) == pytest.approx(-float(first[4]), abs=1e-9)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        noise = 1 + 1e-15 * torch.randn(matrix.shape, generator=generator, dtype=torch.float64)
        order = torch.randperm(12, generator=generator)
        again = principal_axes((matrix.double() * noise)[order], 6)
        torch.testing.assert_close(again.axes, expected.axes, rtol=0, atol=1e-6)
    product = expected.axes.T @ expected.axes
    torch.testing.assert_close(product, torch.eye(6, dtype=torch.float64))
