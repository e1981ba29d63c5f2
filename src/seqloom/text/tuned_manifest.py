"""The manifest of a text encoder that was tuned by the log, `tuned_encoder.json` in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import read_json, write_json

TUNED_ENCODER = "tuned_encoder.json"
_WHAT, _REMEDY = "the manifest of a tuned encoder", "tune it again"


class TunedSource(Config):
    """A tuned encoder that another tuning started from or learned from."""

    folder: str
    weights_sha256: str
    training: str
    """SHA-256 of the training part that it was tuned on."""
    seconds: float
    """Seconds of its tuning."""


class TunedEncoderManifest(Config):
    """What an encoder was tuned from."""

    format: Literal["seqloom-tuned-encoder"] = "seqloom-tuned-encoder"
    version: int = 1
    status: Literal["training", "complete"] = "training"
    seqloom: str
    """Version of seqloom that wrote the folder."""
    encoder: str
    """The model before tuning, or `catalogue`."""
    encoder_sha256: str | None
    """SHA-256 of its weights; None if it started from the catalogue's words."""
    dataset: str
    """Folder of the data set."""
    dataset_fingerprint: str
    training: str
    """SHA-256 of the training part, the only part that gave targets. Texts of the catalogue were read."""
    part: Literal["train"] = "train"
    """Part of the data set whose events were used. The validation part chose the epoch."""
    sources: list[TunedSource] = Field(default_factory=list)
    """Tuned encoders that it started from or learned from, and theirs."""
    histories: int
    """Histories (or windows of them) that gave targets."""
    targets: int
    """Targets of an epoch."""
    batches_sha256: str
    """SHA-256 of the batches of the first epoch, which an audit makes again from the training part."""
    config: dict[str, Any]
    best_epoch: int | None = None
    valid: dict[str, float] = Field(default_factory=dict)
    """Validation metrics of text neighbours with the weights that were kept."""
    weights_sha256: str = ""
    """As in the provenance of embeddings."""
    seconds: float = 0.0
    """Seconds of tuning and validation, over all calls."""


def read_tuned_manifest(folder: Path) -> TunedEncoderManifest | None:
    """Reads the manifest in a model folder; None if seqloom did not tune the model.

    Raises:
        ArtefactError: the manifest is damaged.
    """
    file = folder / TUNED_ENCODER
    if not file.exists():
        return None
    raw = read_json(file, "manifest of a tuned encoder")
    with reading(file, _WHAT, _REMEDY):
        return TunedEncoderManifest.build(raw)


def holds_language_model(encoder: str) -> bool | None:
    """Returns whether a language model has a part in an encoder that the log tuned; None if none did.

    Word vectors have none, unless they started from the token vectors of a model.

    Raises:
        ArtefactError: the manifest is damaged.
    """
    tuned = read_tuned_manifest(Path(encoder))
    if tuned is None:
        return None
    words = tuned.config.get("words", {})
    return tuned.config.get("kind") != "static" or words.get("start") == "pretrained"


def tuned_sources(*encoders: str | None) -> list[TunedSource]:
    """Returns those of the encoders that were tuned, with the sources of each.

    Raises:
        ArtefactError: a manifest is damaged, or a tuning is not complete.
    """
    found: list[TunedSource] = []
    for encoder in encoders:
        folder = None if encoder is None else Path(encoder).resolve()
        tuned = None if folder is None else read_tuned_manifest(folder)
        if folder is None or tuned is None:
            continue
        if tuned.status != "complete":
            raise ArtefactError(f"the tuning of {folder} is not finished; --resume it first")
        own = TunedSource(
            folder=str(folder),
            weights_sha256=tuned.weights_sha256,
            training=tuned.training,
            seconds=tuned.seconds,
        )
        found += [source for source in (own, *tuned.sources) if source not in found]
    return found


def tuning_seconds(encoder: str) -> float:
    """Returns the seconds that `tune-encoder` took for an encoder and its sources; 0 if it did not make it.

    Raises:
        ArtefactError: the manifest is damaged.
    """
    tuned = read_tuned_manifest(Path(encoder))
    return 0.0 if tuned is None else tuned.seconds + sum(s.seconds for s in tuned.sources)


def write_tuned_manifest(folder: Path, manifest: TunedEncoderManifest) -> None:
    """Writes the manifest with its own checksum."""
    write_json(folder / TUNED_ENCODER, manifest.model_dump(mode="json"), sealed=True)
