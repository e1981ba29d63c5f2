"""Ridge regression with a penalty chosen by generalised cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_PENALTIES = torch.logspace(-4, 4, 33, dtype=torch.float64)


@dataclass(frozen=True)
class RidgeMap:
    """The linear map y = x W + b."""

    weight: Tensor
    """[E, D]"""
    bias: Tensor
    """[D]"""
    explained: float
    """Estimated share of the variance of y in new rows that the map explains; at most 0 if none."""

    def __call__(self, x: Tensor) -> Tensor:
        """Applies the map. Shapes: [M, E] -> [M, D]."""
        return x.to(self.weight.dtype) @ self.weight + self.bias


def fit_ridge(x: Tensor, y: Tensor) -> RidgeMap:
    """Fits the least-squares map from x to y with the penalty that predicts left-out rows best.

    Source: Golub, Heath & Wahba, Technometrics 1979 (generalised cross-validation).

    Raises:
        ValueError: there are fewer than two rows.

    Shapes: x [N, E], y [N, D].
    """
    if len(x) < 2:
        raise ValueError(f"fit_ridge needs at least two rows, got {len(x)}")
    x, y = x.double(), y.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y_centred = x - x_mean, y - y_mean
    strength, axes = torch.linalg.eigh(
        x.t() @ x
    )  # of E columns: far cheaper than the SVD of N rows
    # Directions without variance carry no information; the rest are R in number.
    some = strength > strength.amax() * x.shape[1] * torch.finfo(x.dtype).eps
    strength, axes = strength[some], axes[:, some]
    along = axes.t() @ (x.t() @ y_centred)  # [R, D]
    total = y_centred.square().sum()
    penalties = _PENALTIES.to(x.device) * strength.sum().div(x.shape[1]).clamp(min=1e-12)
    kept = strength / (strength + penalties[:, None])  # [P, R], shrinkage of each direction
    energy = (
        along.square().sum(1) / strength
    )  # [R], sum of squares of y that each direction explains
    residual = total - energy.sum() + ((1 - kept).square() * energy).sum(1)
    # The mean takes one degree of freedom; a penalty that leaves none says nothing about new rows.
    left = (len(x) - 1 - kept.sum(1)).clamp(min=1e-9)
    score = residual.clamp(min=0) / left.square()  # [P], the GCV criterion up to a constant
    best = int(score.argmin())
    weight = axes @ (along / (strength + penalties[best])[:, None])
    spread = total / (len(x) - 1) ** 2
    explained = 1.0 - float(score[best] / spread) if float(total) > 0 else 0.0
    return RidgeMap(weight.float(), (y_mean - x_mean @ weight).float(), explained)
