"""Principal components of an embedding matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError

_BLOCK = 65_536
_EQUAL = 1e-12
"""Variances that differ by at most this share of the largest one are equal but for rounding."""
_TIE = 1e-6
"""Entries whose magnitudes differ by at most this share are tied."""


@dataclass(frozen=True)
class PrincipalAxes:
    """Principal axes, sorted by descending variance."""

    mean: Tensor
    """[E] float64, the mean of the rows."""
    axes: Tensor
    """[E, dims] float64, orthonormal columns; of one with a variance of its own the first of the entries of
    largest magnitude is positive."""
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

    Any rotation among axes of equal variance would serve as well. Fixed numbers draw one, so that processors
    agree.

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
    variances = variances.flip(0)
    axes = _settled(variances, vectors.flip(1), dims)
    variances = variances[:dims]
    # Variances below the rounding error of the largest one are noise, which must not be amplified.
    noise = variances[0].clamp(min=0) * width * torch.finfo(torch.float64).eps
    deviations = torch.where(variances > noise, variances.clamp(min=0).sqrt(), 0.0)
    return PrincipalAxes(mean, axes, deviations)


def _settled(variances: Tensor, vectors: Tensor, dims: int) -> Tensor:
    """Settles what an eigendecomposition leaves open: signs, and the axes among equal variances.

    Shapes: variances [E] in descending order, vectors [E, E] -> [E, dims].
    """
    equal = _EQUAL * float(variances[0].clamp(min=0))
    values = variances.tolist()
    axes = vectors[:, :dims].clone()
    first = 0
    while first < dims:
        last = first + 1
        while last < len(values) and values[first] - values[last] <= equal:
            last += 1
        if last == first + 1:
            axes[:, first] *= _sign(axes[:, first])
        else:
            space, wanted = vectors[:, first:last], min(last, dims) - first
            drawn = torch.randn(
                len(vectors),
                wanted,
                dtype=torch.float64,
                generator=torch.Generator().manual_seed(first),
            )
            turn, triangle = torch.linalg.qr(space.T @ drawn)
            axes[:, first : first + wanted] = space @ (turn * triangle.diagonal().sign())
        first = last
    return axes


def _sign(axis: Tensor) -> float:
    """Returns the sign of the first of the entries of largest magnitude. Shapes: [E]."""
    sizes = axis.abs()
    largest = int((sizes >= (1 - _TIE) * sizes.max()).nonzero()[0])
    return -1.0 if axis[largest] < 0 else 1.0


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
