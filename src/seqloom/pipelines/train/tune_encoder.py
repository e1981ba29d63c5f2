"""`tune-encoder`: tunes a text encoder on the training part of a data set.

OUT/modules.json ...       a model folder of sentence-transformers
OUT/tuned_encoder.json     data set, part, first batches, configuration, validation metrics
OUT/log.jsonl              one line for each epoch
OUT/checkpoints/           during tuning
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from seqloom._version import __version__
from seqloom.core.config import Config
from seqloom.core.device import peak_rss_mb, resolve_device
from seqloom.core.digest import steps_digest
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import atomic_folder, sole_writer
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.random import derive_seed
from seqloom.core.storage import naming_full_disk
from seqloom.core.tensors import as_os_error
from seqloom.data.store import Dataset
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.ranking import rank_targets
from seqloom.hub.model_folders import model_folder, weights_hash
from seqloom.systems.base import TrainingData
from seqloom.systems.textknn import TextKNNConfig
from seqloom.systems.tuned_text.base import TunedEncoder, neighbour_scorer
from seqloom.systems.tuned_text.batches import first_batches
from seqloom.systems.tuned_text.config import (
    TUNING_CONFIGS,
    AnyTuningConfig,
    DistilledTuningConfig,
    StaticTuningConfig,
)
from seqloom.text.tuned_manifest import (
    TunedEncoderManifest,
    read_tuned_manifest,
    tuned_sources,
    write_tuned_manifest,
)
from seqloom.text.words.vocabulary import CATALOGUE
from seqloom.training.checkpoint import Checkpoints, Position
from seqloom.training.log import RunLog
from seqloom.training.loop import Trainer

Kind = Literal["static", "transformer", "distilled"]
_METRICS = ("hr@10", "ndcg@10")
_STARTED = ("status", "best_epoch", "valid", "weights_sha256", "seqloom", "dataset")
"""Fields of a manifest that may differ when a tuning resumes."""


class EncoderTuningSummary(Config):
    """The result of `tune_encoder`."""

    out: str
    """The folder; pass it as `seqloom embed --encoder`."""
    kind: str
    encoder: str
    """The model before tuning."""
    epochs: int
    best_epoch: int | None
    valid: dict[str, float]
    """Validation metrics of text neighbours (textknn) with the weights that were kept."""
    targets_per_epoch: int
    seconds_per_epoch: list[float]
    seconds_total: float
    peak_rss_mb: float
    trained_parameters: int


@public_function()
def tune_encoder(
    dataset: Dataset | str | Path,
    *,
    out: str | Path,
    encoder: str = CATALOGUE,
    kind: Kind = "static",
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    checkpoint_every_s: float = 60.0,
    progress: Progress = AUTO,
) -> EncoderTuningSummary:
    """Tunes a text encoder on the training part of a data set and writes it at `out`.

    After each epoch, text neighbours (textknn over the present vectors) rank the validation part, and
    the best weights are kept. `resume` continues a killed call with the same bits (on a CPU).

    Args:
        encoder: `catalogue` for the words of the item texts, or a model: its tokenizer (static), or the
            model itself (transformer, distilled).
        kind: `static` tunes word vectors, `transformer` a language model on histories, `distilled` one on a
            table of item vectors that the histories trained.

    Raises:
        ConfigError: bad configuration, items without text, or nothing to tune or validate on.
        AssetError: the model is missing or cannot be read.
        ArtefactError: `out` exists, or was started with other data or another configuration.
        LockedError: another process is writing `out`.
        TrainingError: the loss is not finite.
    """
    started = time.monotonic()
    data = TrainingData(
        (dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)).warm, progress
    )
    out = Path(out)
    resolved = _configure(kind, encoder, config)
    if not len(data.dataset.held_out("valid").users):
        raise ConfigError(
            "the data set has no validation events, so there is nothing to choose the weights on; prepare it "
            "with --min-user-count 3 or more, or with another --split"
        )
    with sole_writer(out, progress):
        _check_folder(out, resume=resume, overwrite=overwrite)
        manifest = describe(encoder, resolved, data)
        tuned = build_tuned_encoder(encoder, resolved, data, resolve_device(device))
        _prepare_folder(out, manifest, resume=resume)
        position = _fit(out, tuned, resolved, data, checkpoint_every_s)
        trained = sum(p.numel() for p in tuned.module.parameters() if p.requires_grad)
        history = position.history
        seconds = round(max(time.monotonic() - started, position.logged_seconds), 3)
        _write(out, tuned, manifest, position, seconds)
    return EncoderTuningSummary(
        out=str(out),
        kind=kind,
        encoder=encoder,
        epochs=len(history),
        best_epoch=position.best_epoch,
        valid=position.best_metrics,
        targets_per_epoch=max((row["targets"] for row in history), default=0),
        seconds_per_epoch=[row["seconds"] for row in history],
        seconds_total=seconds,
        peak_rss_mb=round(peak_rss_mb(), 1),
        trained_parameters=trained,
    )


def build_tuned_encoder(
    encoder: str,
    config: AnyTuningConfig,
    data: TrainingData,
    device: torch.device,
) -> TunedEncoder:
    """Builds an encoder as it is before its first step; only the seed decides random draws.

    Raises:
        ConfigError: the items have no text, or a key does not fit the model.
        AssetError: the model is missing or cannot be read.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, "initialise"))
        if isinstance(config, StaticTuningConfig):
            from seqloom.systems.tuned_text.static import StaticEncoder

            return StaticEncoder(config, data, device)
        if isinstance(config, DistilledTuningConfig):
            from seqloom.systems.tuned_text.distilled import DistilledEncoder

            return DistilledEncoder(encoder, config, data, device)
        from seqloom.systems.tuned_text.transformer import TransformerEncoder

        return TransformerEncoder(encoder, config, data, device)


def describe(encoder: str, config: AnyTuningConfig, data: TrainingData) -> TunedEncoderManifest:
    """Describes a tuning before its first step.

    Raises:
        ConfigError: there are no targets.
        ArtefactError: it would start from a tuning that is damaged or not complete.
    """
    dataset, steps = data.dataset, first_batches(config, data)
    sources = tuned_sources(encoder, getattr(config, "teacher", None))
    for source in sources:
        if source.training != dataset.training_hash:
            data.progress.note(
                f"{source.folder} was tuned on another training part; if that shares events with what this "
                "data set holds out, the figures will be too good"
            )
    batches = [steps[step] for step in range(len(steps))]
    return TunedEncoderManifest(
        seqloom=__version__,
        encoder=encoder,
        encoder_sha256=None if encoder == CATALOGUE else weights_hash(model_folder(encoder)),
        dataset=str(dataset.path.resolve()),
        dataset_fingerprint=dataset.fingerprint,
        training=dataset.training_hash,
        sources=sources,
        histories=sum(len(batch) for batch in batches),
        targets=sum(batch.num_targets for batch in batches),
        batches_sha256=steps_digest(steps),
        config=config.model_dump(mode="json"),
    )


def _configure(kind: Kind, encoder: str, config: Mapping[str, Any] | None) -> AnyTuningConfig:
    if kind not in TUNING_CONFIGS:
        raise ConfigError(f"kind: found {kind!r}; allowed are {', '.join(TUNING_CONFIGS)}")
    values = dict(config or {})
    if kind == "static":
        words = dict(values.get("words") or {})
        if words.setdefault("tokenizer", encoder) != encoder:
            raise ConfigError(
                f"words.tokenizer is {words['tokenizer']!r}, but the encoder is {encoder!r}; give one of them"
            )
        values["words"] = words
    elif encoder == CATALOGUE:
        raise ConfigError(
            f"kind {kind} starts from a model: name one as the encoder, such as all-minilm-l6-v2, "
            "or tune word vectors (kind static)"
        )
    return TUNING_CONFIGS[kind].build({**values, "kind": kind})


def _check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Checks that `out` may be written.

    Raises:
        ArtefactError: it holds something else, or a tuning that may not be replaced.
    """
    if not out.exists() or not any(out.iterdir()):
        return
    if read_tuned_manifest(out) is None:
        raise ArtefactError(
            f"{out} is not a tuned encoder, so it is not overwritten; choose another folder"
        )
    if resume:
        return
    if not overwrite:
        raise ArtefactError(
            f"{out} already exists; choose another name, --resume it, or --overwrite it"
        )
    shutil.rmtree(out)


def _prepare_folder(out: Path, manifest: TunedEncoderManifest, *, resume: bool) -> None:
    """Writes the first manifest, or checks that the tuning at `out` is the same one."""
    before = read_tuned_manifest(out) if out.exists() else None
    if before is None:
        with atomic_folder(out, overwrite=out.exists()) as work:
            write_tuned_manifest(work, manifest)
        return
    assert resume
    if before.status == "complete":
        raise ArtefactError(f"{out} is complete; there is nothing to resume")
    then, now = (m.model_dump(exclude=set(_STARTED)) for m in (before, manifest))
    changed = [name for name in now if then[name] != now[name]]
    if changed:
        raise ArtefactError(
            f"{out} was started with another {', '.join(changed)}; resume with the same, or choose "
            "another folder"
        )


def _fit(
    out: Path,
    tuned: TunedEncoder,
    config: AnyTuningConfig,
    data: TrainingData,
    checkpoint_every_s: float,
) -> Position:
    held_out = data.dataset.held_out("valid")
    neighbours = TextKNNConfig(decay=config.decay, whitening=config.whitening)

    def validate() -> dict[str, float]:
        ranks = rank_targets(
            neighbour_scorer(tuned.item_vectors(), neighbours),
            held_out,
            popularity=data.dataset.popularity[1:],
            max_len=neighbours.max_len,
        )
        return rank_metrics(ranks.ranks, _METRICS)

    trainer = Trainer(
        tuned.module,
        tuned.phases(),
        validate,
        config.seed,
        next(tuned.module.parameters()).device,
        Checkpoints(out / "checkpoints"),
        RunLog(out),
        checkpoint_every_s=checkpoint_every_s,
        progress=data.progress,
    )
    return trainer.fit(resume=True)


def _write(
    out: Path,
    tuned: TunedEncoder,
    manifest: TunedEncoderManifest,
    position: Position,
    seconds: float,
) -> None:
    """Writes the model, and last the manifest with status `complete`."""
    with naming_full_disk(out):
        try:
            tuned.save(out)
        except SafetensorError as error:
            raise as_os_error(error, out) from error
    done = {
        "status": "complete",
        "best_epoch": position.best_epoch,
        "valid": position.best_metrics,
        "weights_sha256": weights_hash(out),
        "seconds": seconds,
    }
    write_tuned_manifest(out, manifest.model_copy(update=done))
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
