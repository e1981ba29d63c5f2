"""Principal components of an embedding matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError

_BLOCK = 65_536


def pca(matrix: Tensor, dims: int, whiten: bool = False) -> Tensor:
    """The first `dims` principal component scores of the centred rows, the largest variance first.

    Exact, in float64, and the same at every call: of each component the entry of largest magnitude
    is made positive. With `whiten` each column is scaled to variance one (divided by N); a column
    without variance stays zero.

    Raises:
        ConfigError: `dims` is not between 1 and the smaller side of the matrix, or a value is not
            finite.

    Shapes: matrix [N, E] -> [N, dims] float32.
    """
    rows, width = matrix.shape
    if not 1 <= dims <= min(rows, width):
        raise ConfigError(
            f"cannot take {dims} principal components of {rows} rows of width {width}; "
            f"1 to {min(rows, width)} are allowed"
        )
    if not torch.isfinite(matrix).all():
        raise ConfigError("cannot take principal components: the matrix holds NaN or infinity")
    mean = torch.zeros(width, dtype=torch.float64)
    for block in matrix.split(_BLOCK):
        mean += block.double().sum(dim=0)
    mean /= rows
    covariance = torch.zeros(width, width, dtype=torch.float64)
    for block in matrix.split(_BLOCK):
        centred = block.double() - mean
        covariance += centred.T @ centred
    variances, vectors = torch.linalg.eigh(covariance / rows)  # rising order
    variances = variances.flip(0)[:dims]
    components = vectors.flip(1)[:, :dims]  # [E, dims]
    largest = components.gather(0, components.abs().argmax(dim=0, keepdim=True))  # [1, dims]
    components = components * torch.where(largest < 0, -1.0, 1.0)
    if whiten:
        # Below the rounding error of the largest variance there is only noise; do not blow it up.
        noise = variances[0].clamp(min=0) * width * torch.finfo(torch.float64).eps
        scale = torch.where(variances > noise, variances.clamp(min=noise).rsqrt(), 0.0)
        components = components * scale
    return torch.cat([((b.double() - mean) @ components).float() for b in matrix.split(_BLOCK)])
