"""Tiny text models over a few output tokens, and prompts of unequal length."""

from __future__ import annotations

import pytest
import torch

from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.encoder_decoder import EncoderDecoder
from support.language_models import build_tiny_network

OUTPUTS = torch.tensor([1, 5, 3, 9, 4, 12, 20])  # the end mark first; not in order, not contiguous


@pytest.fixture(scope="session", params=["t5", "llama"])
def model(request: pytest.FixtureRequest) -> EncoderDecoder | DecoderOnly:
    network = build_tiny_network(request.param)
    return (EncoderDecoder if request.param == "t5" else DecoderOnly)(network, OUTPUTS).eval()


@pytest.fixture(scope="session")
def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """[3, 5] tokens and their mask."""
    tokens = torch.tensor([[7, 8, 9, 0, 0], [3, 4, 5, 6, 7], [30, 0, 0, 0, 0]])
    return tokens, tokens > 0
