"""Text encoders by name."""

from seqloom.text.encoders.base import TextEncoder, check_vectors
from seqloom.text.encoders.factory import build_encoder

__all__ = ["TextEncoder", "build_encoder", "check_vectors"]
