"""Initial item vectors from text embeddings."""

from __future__ import annotations

from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.text.pca import pca

_ROUNDING = 1e-6


def scaled_pca(text: Tensor, dims: int, std: float, whitening: float = 0.0) -> Tensor:
    """Returns the first principal components of the text, scaled to overall standard deviation `std`.

    Each component is first divided by its own standard deviation to the power `whitening`.

    Raises:
        ConfigError: there are fewer than `dims` components, or all texts have the same embedding.

    Shapes: text [N, E] -> [N, dims].
    """
    if dims > min(text.shape):
        raise ConfigError(
            f"encoder.hidden_size {dims} is larger than the text embedding has components "
            f"({min(text.shape)}); lower it, or start the item table at random"
        )
    check_spread(text)
    components = pca(text, dims, whitening)
    return components * (std / components.std())


def check_spread(text: Tensor) -> None:
    """Checks that text vectors differ, since initial vectors are scaled by their spread.

    Raises:
        ConfigError: all items have the same vector, up to rounding.

    Shapes: text [N, E].
    """
    if float((text - text[:1]).abs().max()) <= _ROUNDING * float(text.abs().max()):
        raise ConfigError(
            f"all items ({len(text)}) have the same text vector, so the text cannot distinguish them: give "
            "`seqloom prepare` --items with texts that differ and embed again, or train a system without "
            "text, such as sasrec"
        )
