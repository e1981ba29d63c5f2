"""Whether a language model has a part in an encoder that the log tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqloom.text.tuned_manifest import (
    TunedEncoderManifest,
    holds_language_model,
    write_tuned_manifest,
)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"kind": "static", "words": {"start": "random"}}, False),
        ({"kind": "static", "words": {"start": "pretrained"}}, True),
        ({"kind": "transformer"}, True),
        ({"kind": "distilled", "start": "random"}, True),
    ],
)
def test_word_vectors_from_random_ones_hold_no_language_model(
    tmp_path: Path, config: dict[str, Any], expected: bool
) -> None:
    manifest = TunedEncoderManifest(
        seqloom="0",
        encoder="catalogue",
        encoder_sha256=None,
        dataset="data",
        dataset_fingerprint="",
        training="",
        histories=1,
        targets=1,
        batches_sha256="",
        config=config,
    )
    write_tuned_manifest(tmp_path, manifest)
    assert holds_language_model(str(tmp_path)) is expected


def test_what_was_not_tuned_is_not_judged(tmp_path: Path) -> None:
    assert holds_language_model(str(tmp_path)) is None
    assert holds_language_model("all-minilm-l6-v2") is None
