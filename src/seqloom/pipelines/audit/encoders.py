"""Checks a text encoder that was tuned by the log: makes its batches again from the training part."""

from __future__ import annotations

from pathlib import Path

from seqloom.core.digest import steps_digest
from seqloom.core.errors import SeqloomError
from seqloom.core.progress import Progress
from seqloom.data.store import Dataset
from seqloom.data.training_only import training_only
from seqloom.hub.model_folders import weights_hash
from seqloom.pipelines.audit.report import Checks
from seqloom.systems.base import TrainingData
from seqloom.systems.tuned_text.batches import first_batches
from seqloom.systems.tuned_text.config import TUNING_CONFIGS
from seqloom.text.store import TextEmbeddings
from seqloom.text.tuned_manifest import TunedEncoderManifest, read_tuned_manifest

_SAW = "training part"


def check_tuned_encoder(
    data: Dataset, embeddings: TextEmbeddings, checks: Checks, progress: Progress
) -> None:
    """Checks the encoder of an embedding, if it was tuned.

    Its batches depend on every training event. Made again without the held-out events, they must have the
    hash that the tuning recorded before its first step.
    """
    provenance = embeddings.manifest.encoder
    recorded = provenance.get("tuned_on")
    folder = Path(str(provenance.get("name", "")))
    try:
        manifest = read_tuned_manifest(folder)
    except SeqloomError as error:
        manifest, why = None, str(error)
    else:
        why = f"{folder} is gone or no longer a tuned encoder"
    if recorded is None and manifest is None:
        return
    what = (f"tuned encoder of {embeddings.name!r}", _SAW)
    if recorded is None:
        why = "the embedding was made by a seqloom that did not record the tuning"
        checks.unknown(
            *what, why, f"run `seqloom embed {data.path} --name {embeddings.name} --overwrite`"
        )
        return
    if manifest is None:
        checks.unknown(*what, why, "keep the folder that `seqloom tune-encoder` wrote")
        return
    if manifest.training != data.training_hash:
        checks.unknown(
            *what,
            f"it was tuned on another training part ({manifest.training[:12]}, {manifest.dataset}), which "
            "may hold these users' held-out events",
            "tune on this data set, or make sure that the two share no events",
        )
        return
    others = [s for s in manifest.sources if s.training != data.training_hash]
    if others:
        checks.unknown(
            *what,
            f"it started from or learned from {others[0].folder}, which was tuned on another training part "
            "and may have seen these users' held-out events",
            "start from encoders that were tuned on this data set, or make sure that the two share no events",
        )
        return
    fault = _fault(data, manifest, folder, provenance["weights_sha256"], progress)
    for source in manifest.sources:
        if fault is not None:
            break
        learned = _manifest(Path(source.folder))
        if learned is None:
            why = f"{source.folder}, which it learned from, is gone or cannot be read"
            checks.unknown(*what, why, "keep the folders that `seqloom tune-encoder` wrote")
            return
        fault = _fault(data, learned, Path(source.folder), source.weights_sha256, progress)
        fault = fault and f"{source.folder}, which it learned from: {fault}"
    checks.judge(
        *what,
        fault is None,
        good=f"batches of {manifest.targets:,} targets, made again from the training part, have its hash",
        bad=fault or "",
        action=f"run `seqloom tune-encoder {data.path} --out {folder} --overwrite`, embed and train again",
    )


def _fault(
    data: Dataset,
    manifest: TunedEncoderManifest,
    folder: Path,
    expected: str,
    progress: Progress,
) -> str | None:
    """Returns what is wrong with a tuned encoder whose weights have the hash `expected`, if anything."""
    if not expected == manifest.weights_sha256 == weights_hash(folder):
        return "its weights are not those that the tuning wrote"
    config = TUNING_CONFIGS[manifest.config["kind"]].build(manifest.config)
    try:
        batches = first_batches(config, TrainingData(training_only(data.warm), progress))
    except SeqloomError as error:
        return f"its batches cannot be made from the training part alone: {error}"
    if steps_digest(batches) != manifest.batches_sha256:
        return "it was tuned on other events than those of the training part"
    return None


def _manifest(folder: Path) -> TunedEncoderManifest | None:
    """Reads the manifest of a tuned encoder; None if it is gone or damaged."""
    try:
        return read_tuned_manifest(folder)
    except SeqloomError:
        return None
