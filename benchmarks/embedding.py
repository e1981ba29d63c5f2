"""Embedding with MiniLM by `embed`, compared with the library's `encode` on texts sorted by length."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.data import benchmark_dataset
from benchmarks.plain import as_library
from benchmarks.result import Measurement, Result
from seqloom.core.device import keep_freed_memory
from seqloom.text.encoders import build_encoder
from seqloom.text.encoders.sentence import SentenceEncoder
from seqloom.text.options import EncoderOptions
from seqloom.text.prompts import item_prompts
from seqloom.text.resume import encode_all

ALLOWED_S, TITLES = 45.0, 12_101
"""The bar for so many titles on 2 cores; it falls with their number."""
CLOSE = 1e-5
QUICK_TITLES = 1_024
BATCH = 64
"""Texts that the library encodes at a time, as many as ours on a CPU."""


def run(folder: Path, quick: bool = False) -> list[Result]:
    """Both in turn, the first time to warm up."""
    keep_freed_memory()
    dataset = benchmark_dataset(folder)
    texts = [text for text in item_prompts(dataset, "title").texts if text is not None]
    if quick:  # every n-th, since the whole would take minutes
        texts = texts[:: max(1, len(texts) // QUICK_TITLES)]
    encoder = build_encoder(EncoderOptions())
    assert isinstance(encoder, SentenceEncoder)
    ids = [str(number) for number in range(len(texts))]

    def ours() -> Tensor:
        with tempfile.TemporaryDirectory() as work:
            return encode_all(encoder, texts, ids, Path(work), name="encoding")[0]

    def library() -> Tensor:
        by_length = sorted(texts, key=len, reverse=True)
        with as_library(encoder.model):
            vectors = encoder.model.encode(
                by_length,
                batch_size=BATCH,
                convert_to_tensor=True,
                show_progress_bar=False,
            )
        place = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
        result = torch.empty_like(vectors)
        result[place] = vectors
        return result.float().cpu()

    library()
    mine, vectors = _timed(ours)
    theirs, expected = _timed(library)
    largest = float((vectors - expected).abs().max())
    if largest > CLOSE:
        raise RuntimeError(f"the vectors differ by {largest:.1e}; at most {CLOSE:.0e} is allowed")
    notes = {
        "model": encoder.name,
        "texts": f"{len(texts):,} titles" + (" (quick: a part of them)" if quick else ""),
        "largest difference of the vectors": f"{largest:.1e}",
        "rate": f"{len(texts) / mine.median:.0f} texts/s",
    }
    bar = Measurement("bar", "s", [ALLOWED_S * len(texts) / TITLES])
    return [
        Result("Embedding of titles against the library", mine, theirs, notes=notes),
        Result("Embedding of titles against the bar", mine, bar),
    ]


def _timed(work: Callable[[], Tensor]) -> tuple[Measurement, Tensor]:
    started = time.perf_counter()
    vectors = work()
    return Measurement("all texts", "s", [time.perf_counter() - started]), vectors
