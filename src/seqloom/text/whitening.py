"""Whitening of text vectors, so that no direction of large variance dominates similarity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.text.pca import moments

_BLOCK = 65_536


@dataclass(frozen=True)
class Whitening:
    """The map of text vectors into the whitened space."""

    mean: Tensor
    """[E] float64, the mean of the rows that it was fitted on."""
    matrix: Tensor
    """[E, E] float64, symmetric."""


def fit_whitening(matrix: Tensor, power: float) -> Whitening:
    """Fits the whitening C^(-power / 2), where C is the shrunk covariance of the rows.

    Power 1 gives every direction the same variance, 0 only subtracts the mean. Fewer rows than columns
    have no variance in most directions, and whitening by their own covariance would make all of them
    equally distant; shrinkage towards equal variances, which needs no setting, prevents that.

    Source: Ledoit and Wolf, 2004, "A well-conditioned estimator for large-dimensional covariance matrices",
    lemmas 3.2 to 3.4; powers between 0 and 1 are ours.

    Raises:
        ConfigError: a value is not finite.

    Shapes: matrix [N, E].
    """
    mean, covariance, fourth = moments(matrix)
    rows, width = matrix.shape
    scale = float(covariance.trace()) / width
    square = float(covariance.square().sum())
    apart = square - width * scale**2  # |C - scale I|^2
    noise = (fourth - square) / rows  # expected |sample C - true C|^2
    share = min(1.0, noise / apart) if apart > 0 else 1.0
    shrunk = (1.0 - share) * covariance + share * scale * torch.eye(width, dtype=torch.float64)
    variances, vectors = torch.linalg.eigh(shrunk)
    some = variances > 0
    weights = torch.where(some, torch.where(some, variances, 1.0) ** (-power / 2), 0.0)
    return Whitening(mean, (vectors * weights) @ vectors.T)


def whitened(text: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """Maps text vectors to rows of length 1 in the whitened space; 0 for a text at the mean.

    Shapes: text [M, E], mean [E], matrix [E, E] -> [M, E] float32.
    """
    blocks = text.split(_BLOCK)  # in float64 all at once would take three times the result
    return torch.cat([F.normalize((b.to(mean) - mean) @ matrix, dim=1).float() for b in blocks])
