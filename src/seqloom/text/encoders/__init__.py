"""Text encoders by name."""

from seqloom.text.encoders.base import TextEncoder, check_vectors
from seqloom.text.encoders.factory import build_encoder, rebuild_encoder

__all__ = ["TextEncoder", "build_encoder", "check_vectors", "rebuild_encoder"]
