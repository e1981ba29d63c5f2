"""An item table that starts from the text."""

from __future__ import annotations

from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.text.pca import pca


def scaled_pca(text: Tensor, dims: int, std: float, whitening: float = 0.0) -> Tensor:
    """The first principal components of the text, scaled to standard deviation `std` overall.

    Each component is divided by its own standard deviation to the power `whitening` before.

    Raises:
        ConfigError: there are fewer than `dims` components.

    Shapes: text [N, E] -> [N, dims].
    """
    if dims > min(text.shape):
        raise ConfigError(
            f"encoder.hidden_size {dims} is larger than the text embedding has components "
            f"({min(text.shape)}); lower it, or start the item table at random"
        )
    components = pca(text, dims, whitening)
    return components * (std / components.std())
