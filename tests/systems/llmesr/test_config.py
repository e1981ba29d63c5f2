"""Keys of LLM-ESR: one that its semantic encoder does not read is refused."""

from __future__ import annotations

from typing import Any

import pytest

from seqloom.core.errors import ConfigError
from seqloom.systems.llmesr.config import LLMESRConfig


@pytest.mark.parametrize(
    ("semantic", "message"),
    [
        ({"whitening": 0}, "whitening has no effect with encoder=tower.*set encoder=recency"),
        (
            {"encoder": "shared", "blend": 0.1},
            "blend has no effect with encoder=shared.*encoder=tower or recency",
        ),
        (
            {"encoder": "recency", "adapter_size": 8},
            "adapter_size has no effect.*set encoder=shared",
        ),
    ],
)
def test_a_key_of_another_encoder_is_refused(semantic: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LLMESRConfig.build({"semantic": semantic})


@pytest.mark.parametrize(
    "semantic",
    [
        {"blend": 0.1, "tower": {"epochs": 2}},
        {"encoder": "recency", "whitening": 0, "blend": 0.1},
        {"encoder": "shared", "adapter_layers": 1, "trained_text": True},
    ],
)
def test_keys_of_the_encoder_are_kept_and_stored(semantic: dict[str, Any]) -> None:
    config = LLMESRConfig.build({"semantic": semantic})
    stored = config.model_dump(mode="json")
    assert LLMESRConfig.build_stored(stored) == config
    for key, value in semantic.items():
        if key != "tower":
            assert getattr(config.semantic, key) == value


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (None,)),
        ({"text": "a"}, ("a",)),
        ({"text": "a", "collaborative_text": "b"}, ("b",)),
        ({"text": "a", "collaborative_text": "b", "distillation.alpha": 0.1}, ("a", "b")),
        ({"text": "a", "collaborative_text": "b", "semantic.encoder": "recency"}, ("a", "b")),
        ({"text": "a", "collaborative_text": "a", "semantic.encoder": "shared"}, ("a",)),
        ({"text": "a", "collaborative_start": "random"}, ()),
        ({"text": "a", "views": "semantic"}, ()),
        ({"text": "a", "views": "semantic", "semantic.encoder": "recency"}, ("a",)),
        ({"text": "a", "views": "collaborative", "collaborative_text": "b"}, ("b",)),
    ],
)
def test_the_embeddings_are_those_that_views_and_distillation_read(
    given: dict[str, Any], expected: tuple[str | None, ...]
) -> None:
    assert LLMESRConfig.build(given).embeddings == expected
