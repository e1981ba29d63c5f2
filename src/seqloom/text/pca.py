"""Principal components of an embedding matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError

_BLOCK = 65_536


@dataclass(frozen=True)
class PrincipalAxes:
    """Principal axes, sorted by descending variance."""

    mean: Tensor
    """[E] float64, the mean of the rows."""
    axes: Tensor
    """[E, dims] float64, orthonormal columns; the entry of largest magnitude of each is positive."""
    deviations: Tensor
    """[dims] float64, standard deviation (divided by N) along each axis; 0 if it is only rounding error."""

    def weighted(self, whitening: float) -> Tensor:
        """Divides the axes by their deviations to the power `whitening`; 0 for axes without variance.

        Shapes: [E, dims].
        """
        some = self.deviations > 0
        scale = torch.where(some, torch.where(some, self.deviations, 1.0) ** -whitening, 0.0)
        return self.axes * (scale if whitening else 1.0)


def principal_axes(matrix: Tensor, dims: int) -> PrincipalAxes:
    """Computes the first `dims` principal axes of the rows: exact, in float64, deterministic.

    Raises:
        ConfigError: `dims` is not between 1 and the smaller side of the matrix, or a value is not
            finite.

    Shapes: matrix [N, E].
    """
    rows, width = matrix.shape
    if not 1 <= dims <= min(rows, width):
        raise ConfigError(
            f"cannot take {dims} principal components of {rows} rows of width {width}; "
            f"1 to {min(rows, width)} are allowed"
        )
    mean, covariance, _ = moments(matrix)
    variances, vectors = torch.linalg.eigh(covariance)  # ascending order
    variances = variances.flip(0)[:dims]
    axes = vectors.flip(1)[:, :dims]
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))  # [1, dims]
    axes = axes * torch.where(largest < 0, -1.0, 1.0)
    # Variances below the rounding error of the largest one are noise, which must not be amplified.
    noise = variances[0].clamp(min=0) * width * torch.finfo(torch.float64).eps
    deviations = torch.where(variances > noise, variances.clamp(min=0).sqrt(), 0.0)
    return PrincipalAxes(mean, axes, deviations)


def moments(matrix: Tensor) -> tuple[Tensor, Tensor, float]:
    """Computes mean and covariance (divided by N) of the rows, and the mean 4th power of centred lengths.

    Raises:
        ConfigError: a value is not finite.

    Shapes: matrix [N, E] -> [E], [E, E] float64, and a number.
    """
    if not torch.isfinite(matrix).all():
        raise ConfigError(
            "the text vectors hold NaN or infinity; run `seqloom embed` again with --overwrite"
        )
    rows, width = matrix.shape
    mean = torch.zeros(width, dtype=torch.float64)
    for block in matrix.split(_BLOCK):
        mean += block.double().sum(dim=0)
    mean /= rows
    covariance, fourth = torch.zeros(width, width, dtype=torch.float64), 0.0
    for block in matrix.split(_BLOCK):
        centred = block.double() - mean
        covariance += centred.T @ centred
        fourth += float((centred.square().sum(1) ** 2).sum())
    return mean, covariance / rows, fourth / rows


def pca(matrix: Tensor, dims: int, whitening: float = 0.0) -> Tensor:
    """Computes the first `dims` principal component scores of the centred rows, by descending variance.

    Each column is divided by its standard deviation to the power `whitening`: 1 gives every column
    variance one; a column without variance stays zero.

    Raises:
        ConfigError: as `principal_axes`.

    Shapes: matrix [N, E] -> [N, dims] float32.
    """
    principal = principal_axes(matrix, dims)
    axes = principal.weighted(whitening)
    return torch.cat([((b.double() - principal.mean) @ axes).float() for b in matrix.split(_BLOCK)])
