"""Whitening by the shrunk covariance, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

from seqloom.core.errors import ConfigError
from seqloom.text import pca
from seqloom.text.whitening import fit_whitening, whitened


def texts(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, width, generator=draw) * torch.linspace(3, 0.1, width)
    return mixed @ torch.randn(width, width, generator=draw) + 5.0


@pytest.mark.parametrize(("rows", "width"), [(500, 6), (40, 30), (10, 30)])
def test_the_matrix_undoes_the_shrunk_covariance(
    rows: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pca, "_BLOCK", 7)
    text = texts(rows, width)
    actual = fit_whitening(text, 1.0)
    covariance, _ = ledoit_wolf(text.double().numpy())
    undone = actual.matrix.numpy() @ covariance @ actual.matrix.numpy()
    np.testing.assert_allclose(undone, np.eye(width), atol=1e-9)
    np.testing.assert_allclose(actual.mean, text.double().mean(0), rtol=1e-12)


def test_power_zero_only_centres_and_a_half_is_the_root() -> None:
    text = texts(80, 5)
    torch.testing.assert_close(fit_whitening(text, 0.0).matrix, torch.eye(5, dtype=torch.float64))
    half, whole = fit_whitening(text, 0.5).matrix, fit_whitening(text, 1.0).matrix
    torch.testing.assert_close(half @ half, whole)


def test_few_rows_stay_apart_by_more_or_less() -> None:
    """By their own covariance alone, fewer rows than columns would all be equally far from each other."""
    text = texts(20, 60)
    actual = fit_whitening(text, 1.0)
    rows = whitened(text, actual.mean, actual.matrix)
    cosines = (rows @ rows.T)[~torch.eye(20, dtype=torch.bool)]
    assert float(cosines.std()) > 0.05


def test_texts_that_are_all_alike_are_near_to_nothing() -> None:
    text = torch.ones(4, 3)
    actual = fit_whitening(text, 1.0)
    assert not whitened(text, actual.mean, actual.matrix).any()


def test_nan_is_refused() -> None:
    text = texts(9, 3)
    text[2, 1] = float("nan")
    with pytest.raises(ConfigError, match="NaN or infinity"):
        fit_whitening(text, 1.0)
