"""`tune-llm`: tunes a language model on instruction records, for any number of plug-ins to share.

OUT/adapter_model.safetensors + adapter_config.json   a PEFT adapter; or, merged, an ordinary model folder
OUT/tuned.json       the base with its weights' hash, the records, the configuration
OUT/log.jsonl        one line for each epoch
OUT/skipped.txt      the reasons why records were skipped, if any were
OUT/checkpoints/     during training
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from seqloom.core.config import Config, nested
from seqloom.core.damage import reading
from seqloom.core.device import peak_rss_mb, resolve_device
from seqloom.core.errors import ArtefactError, ConfigError, DataError
from seqloom.core.files import atomic_file, atomic_folder, read_json, sha256_file, write_json
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.random import derive_seed
from seqloom.core.storage import naming_full_disk
from seqloom.core.tensors import as_os_error, write_tensors
from seqloom.distributed.processes import ALONE, Processes
from seqloom.hub.quiet import quiet_transformers
from seqloom.llm.loading import load_causal_lm
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.alpaca import Records, read_records
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from seqloom.llm.plugins.tuning import EncodedRecords, TuneConfig, TuningPhase, encode_records
from seqloom.llm.reference import TUNED_FILE, BaseReference
from seqloom.runs.writer_lock import writer_lock
from seqloom.training.checkpoint import Checkpoints, OthersCheckpoints, Position
from seqloom.training.log import NoLog, RunLog
from seqloom.training.loop import Trainer

_SHOWN = 5


class TunedManifest(Config):
    """The manifest of a tuned language model, `tuned.json`."""

    format: Literal["seqloom-tuned-llm"] = "seqloom-tuned-llm"
    status: Literal["training", "complete"] = "training"
    base: BaseReference
    """The language model before tuning."""
    merged: bool
    """Whether the folder holds a full model rather than an adapter of the base."""
    records: str
    """The file of the records."""
    records_sha256: str
    skip_bad: bool
    config: TuneConfig


class LLMTuningSummary(Config):
    """The result of `tune_llm`."""

    out: str
    """The folder; pass it as `llm.name`."""
    base: str
    merged: bool
    records: int
    """Records used for training."""
    skipped: int
    """Skipped records; `skipped.txt` names them."""
    cut: int
    """Records whose response was truncated to `max_tokens`."""
    epochs: int
    targets_per_epoch: int
    """Response tokens."""
    loss: float | None
    """Mean training loss of the last epoch; None if there was no epoch."""
    seconds_per_epoch: list[float]
    seconds_total: float
    peak_rss_mb: float
    trained_parameters: int


@public_function()
def tune_llm(
    records: str | Path,
    *,
    out: str | Path,
    config: Mapping[str, Any] | None = None,
    skip_bad: bool = False,
    merge: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    checkpoint_every_s: float = 60.0,
    progress: Progress = AUTO,
    processes: Processes = ALONE,
) -> LLMTuningSummary:
    """Tunes a language model on Alpaca records and writes it at `out`.

    Writes a PEFT adapter, or with `merge` a full model. `resume` continues a killed call; a complete
    result is kept unless `overwrite` is set.

    Raises:
        DataError: records are faulty (without `skip_bad`), or all of them are.
        ConfigError: bad configuration.
        AssetError: the language model is missing or cannot be read.
        ArtefactError: `out` exists, or was started with other records or another configuration.
        StorageError: the disk is full.
        TrainingError: the loss is not finite.
    """
    records, out = Path(records), Path(out)
    resolved = _build_config(config)
    parsed = read_records(records, skip_bad=skip_bad)
    base = processes.run_in_turn(lambda: load_shared_base(resolved.llm, progress))
    manifest = TunedManifest(
        base=base.reference,
        merged=merge,
        records=str(records),
        records_sha256=sha256_file(records),
        skip_bad=skip_bad,
        config=resolved,
    )
    encoded, skipped = _encode(parsed, base, resolved.max_tokens, skip_bad, progress)

    with writer_lock(out, processes, progress):
        processes.run_on_first(
            partial(_prepare_folder, out, manifest, skipped, resume=resume, overwrite=overwrite)
        )
        started = time.monotonic()
        adapter = _adapter(base, resolved, resolve_device(device))
        position = _fit(out, adapter, encoded, resolved, checkpoint_every_s, progress, processes)
        processes.run_on_first(lambda: _write(out, adapter, manifest, progress))
    return LLMTuningSummary(
        out=str(out),
        base=base.reference.name,
        merged=merge,
        records=len(encoded.kept),
        skipped=len(skipped),
        cut=encoded.cut,
        seconds_total=round(time.monotonic() - started, 3),
        trained_parameters=sum(p.numel() for p in adapter.parameters()),
        **_results(position),
    )


def _results(position: Position) -> dict[str, Any]:
    history = position.history
    return {
        "epochs": len(history),
        "targets_per_epoch": history[-1]["targets"] if history else 0,
        "loss": history[-1]["train"]["loss"] if history else None,
        "seconds_per_epoch": [row["seconds"] for row in history],
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def _build_config(values: Mapping[str, Any] | None) -> TuneConfig:
    config = TuneConfig.build(nested(values or {}))
    if config.epochs == 0:
        raise ConfigError("epochs: found 0: nothing would be tuned; give 1 or more")
    if config.llm.kind != "causal" or config.llm.quantise or config.llm.start != "pretrained":
        raise ConfigError(
            "tune-llm takes a pretrained causal language model in 16 or 32 bits; leave llm.kind, "
            "llm.start and llm.quantise out"
        )
    return config


def _encode(
    records: Records, base: SharedBase, max_tokens: int, skip_bad: bool, progress: Progress
) -> tuple[EncodedRecords, list[str]]:
    """Encodes records; returns the tokens and the reason for each skipped record."""
    encoded = encode_records(records.good, base, max_tokens)
    kept = set(encoded.kept)
    long = [
        f"line {record.line}: the prompt alone has {max_tokens} tokens or more"
        for number, record in enumerate(records.good)
        if number not in kept
    ]
    skipped = [*records.bad, *long]
    shown = "; ".join(skipped[:_SHOWN]) + (
        f"; and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
    )
    if long and not skip_bad:
        raise DataError(
            f"{len(long)} record(s) leave no room for a response: {shown}. Raise max_tokens, or "
            "skip them with --skip-bad"
        )
    if not kept:
        raise DataError(f"no record leaves room for a response in {max_tokens} tokens; raise it")
    if skipped:
        progress.warn(f"{len(skipped)} record(s) left out: {shown}")
    if encoded.cut:
        progress.warn(f"{encoded.cut} response(s) cut off at {max_tokens} tokens; see max_tokens")
    return encoded, skipped


def _prepare_folder(
    out: Path, manifest: TunedManifest, skipped: list[str], *, resume: bool, overwrite: bool
) -> str:
    """Creates `out` with a manifest of status `training`, or checks that it can be resumed.

    Lists the skipped records in `skipped.txt`.
    """
    before = _read_manifest(out) if out.exists() else None
    if before is not None and resume:
        _check_resumable(out, before, manifest)
    elif before is not None and not overwrite:
        raise ArtefactError(
            f"{out} already exists; choose another name, --resume it, or --overwrite it"
        )
    else:
        with atomic_folder(out, overwrite=before is not None) as work:
            write_json(work / TUNED_FILE, manifest.model_dump(mode="json"))
    if skipped:
        with atomic_file(out / "skipped.txt") as work:
            work.write_text("\n".join(skipped) + "\n", encoding="utf-8")
    return ""


def _read_manifest(out: Path) -> TunedManifest:
    raw = read_json(out / TUNED_FILE, "tuned language model")
    with reading(out / TUNED_FILE, "the manifest of a tuned language model", "tune it again"):
        return TunedManifest.build(raw)


def _check_resumable(out: Path, before: TunedManifest, manifest: TunedManifest) -> None:
    if before.model_copy(update={"status": "training", "records": manifest.records}) != manifest:
        raise ArtefactError(
            f"{out} was started with other records, another language model or another "
            "configuration; resume with the same, or choose another folder"
        )
    if before.status == "complete":
        raise ArtefactError(f"{out} is complete; there is nothing to resume")


def _adapter(base: SharedBase, config: TuneConfig, device: torch.device) -> Adapter:
    base.move_to(device)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, "initialise"))
        again = config.llm.gradient_checkpointing
        return Adapter(base, config.lora, gradient_checkpointing=again).to(device)


def _fit(
    out: Path,
    adapter: Adapter,
    encoded: EncodedRecords,
    config: TuneConfig,
    checkpoint_every_s: float,
    progress: Progress,
    processes: Processes,
) -> Position:
    first = processes.rank == 0
    kept = Checkpoints if first else OthersCheckpoints
    trainer = Trainer(
        adapter,
        [TuningPhase(adapter, encoded, config)],
        dict,  # nothing is validated
        config.seed,
        adapter.base.device,
        kept(out / "checkpoints"),
        RunLog(out) if first else NoLog(),
        checkpoint_every_s=checkpoint_every_s,
        progress=progress,
        processes=processes,
    )
    return trainer.fit(resume=True)


def _write(out: Path, adapter: Adapter, manifest: TunedManifest, progress: Progress) -> str:
    """Writes the adapter or the merged model, and last the manifest with status `complete`."""
    folder = out / "checkpoints" / "adapter" if manifest.merged else out
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "adapter_model.safetensors") as work:
        write_tensors(work, adapter.peft_state())
    done = manifest.model_copy(update={"status": "complete"}).model_dump(mode="json")
    write_json(folder / TUNED_FILE, done)
    write_json(folder / "adapter_config.json", _peft_config(adapter, manifest))
    if manifest.merged:
        progress.note("merging the adapter into the language model")
        model, tokenizer = load_causal_lm(folder, progress=progress)
        with naming_full_disk(out), quiet_transformers():
            try:
                model.save_pretrained(out)
            except SafetensorError as error:
                raise as_os_error(error, out) from error
            tokenizer.save_pretrained(out)
        write_json(out / TUNED_FILE, done)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return ""


def _peft_config(adapter: Adapter, manifest: TunedManifest) -> dict[str, Any]:
    from peft import LoraConfig

    lora = manifest.config.lora
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=[adapter.base.module_path + path for path in adapter.base.targets(lora)],
        base_model_name_or_path=manifest.base.name,
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    values = config.to_dict()
    return {
        name: sorted(value) if isinstance(value, set) else getattr(value, "value", value)
        for name, value in values.items()
    }
