"""`tune-llm`: instruction records to a tuned language model that any number of plug-ins share.

OUT/adapter_model.safetensors + adapter_config.json   a PEFT adapter; or, merged, an ordinary model folder
OUT/tuned.json       the base with its weights' hash, the records, the configuration
OUT/log.jsonl        one line an epoch
OUT/skipped.txt      what was wrong with the records that were left out, where any were
OUT/checkpoints/     while training
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.device import peak_rss_mb, resolve_device
from seqloom.core.errors import ArtefactError, ConfigError, DataError
from seqloom.core.files import atomic_file, atomic_folder, read_json, sha256_file, write_json
from seqloom.core.progress import SILENT, Progress
from seqloom.core.random import derive_seed
from seqloom.core.tensors import write_tensors
from seqloom.distributed.processes import ALONE, Processes
from seqloom.hub.quiet import quiet_transformers
from seqloom.llm.loading import load_causal_lm
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.alpaca import Records, read_records
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from seqloom.llm.plugins.tuning import EncodedRecords, TuneConfig, TuningPhase, encode_records
from seqloom.llm.reference import TUNED_FILE, BaseReference
from seqloom.runs.sole import sole_process
from seqloom.training.checkpoint import Checkpoints, OthersCheckpoints, Position
from seqloom.training.log import NoLog, RunLog
from seqloom.training.loop import Trainer

_SHOWN = 5


class TunedManifest(Config):
    """What a tuned language model says of itself, in `tuned.json`."""

    format: Literal["seqloom-tuned-llm"] = "seqloom-tuned-llm"
    status: Literal["training", "complete"] = "training"
    base: BaseReference
    """The language model that was tuned."""
    merged: bool
    """Whether the folder is a whole model, or an adapter to the base."""
    records: str
    """The file of the records."""
    records_sha256: str
    skip_bad: bool
    config: TuneConfig


class TuneSummary(Config):
    """What `tune-llm` says at the end."""

    out: str
    """The folder; give it as `llm.name`."""
    base: str
    merged: bool
    records: int
    """Records that were trained on."""
    skipped: int
    """Records that were left out; `skipped.txt` names them."""
    cut: int
    """Records whose response was longer than `max_tokens` allows."""
    epochs: int
    targets_per_epoch: int
    """Response tokens."""
    loss: float | None
    """Mean training loss of the last epoch; None without an epoch."""
    seconds_per_epoch: list[float]
    seconds_total: float
    peak_rss_mb: float
    trained_parameters: int


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
    progress: Progress = SILENT,
    processes: Processes = ALONE,
) -> TuneSummary:
    """Tune a language model on Alpaca records and write it at `out`.

    What is written is a PEFT adapter, or with `merge` a whole model. A killed call goes on with
    `resume`; a complete result is refused, unless it is to be overwritten.

    Raises:
        DataError: the records are bad (without `skip_bad`), or none is left.
        ConfigError: bad configuration.
        AssetError: the language model cannot be found or read.
        ArtefactError: `out` exists, or was begun with other records or another configuration.
        TrainingError: the loss is not finite.
    """
    records, out = Path(records), Path(out)
    resolved = TuneConfig.build(config)
    _check(resolved)
    found = read_records(records, skip_bad=skip_bad)
    base = processes.run_in_turn(lambda: load_shared_base(resolved.llm, progress))
    manifest = TunedManifest(
        base=base.reference,
        merged=merge,
        records=str(records),
        records_sha256=sha256_file(records),
        skip_bad=skip_bad,
        config=resolved,
    )
    encoded, skipped = _encode(found, base, resolved.max_tokens, skip_bad, progress)

    def open_() -> str:
        _open(out, manifest, resume=resume, overwrite=overwrite)
        if skipped:
            with atomic_file(out / "skipped.txt") as work:
                work.write_text("\n".join(skipped) + "\n", encoding="utf-8")
        return ""

    with sole_process(out, processes, progress):
        processes.run_on_first(open_)
        started = time.monotonic()
        adapter = _adapter(base, resolved, resolve_device(device))
        position = _fit(out, adapter, encoded, resolved, checkpoint_every_s, progress, processes)
        processes.run_on_first(lambda: _write(out, adapter, manifest, progress))
    history = position.history
    return TuneSummary(
        out=str(out),
        base=base.reference.name,
        merged=merge,
        records=len(encoded.kept),
        skipped=len(skipped),
        cut=encoded.cut,
        epochs=len(history),
        targets_per_epoch=history[-1]["targets"] if history else 0,
        loss=history[-1]["train"]["loss"] if history else None,
        seconds_per_epoch=[row["seconds"] for row in history],
        seconds_total=round(time.monotonic() - started, 3),
        peak_rss_mb=round(peak_rss_mb(), 1),
        trained_parameters=sum(p.numel() for p in adapter.parameters()),
    )


def _check(config: TuneConfig) -> None:
    if config.epochs == 0:
        raise ConfigError("epochs: found 0: nothing would be tuned; give 1 or more")
    if config.llm.kind != "causal" or config.llm.quantise or config.llm.start != "pretrained":
        raise ConfigError(
            "tune-llm takes a pretrained causal language model in 16 or 32 bits; leave llm.kind, "
            "llm.start and llm.quantise out"
        )


def _encode(
    found: Records, base: SharedBase, max_tokens: int, skip_bad: bool, progress: Progress
) -> tuple[EncodedRecords, list[str]]:
    """Tokens, and what is wrong with each record that is left out."""
    encoded = encode_records(found.good, base, max_tokens)
    kept = set(encoded.kept)
    long = [
        f"line {record.line}: the prompt alone has {max_tokens} tokens or more"
        for number, record in enumerate(found.good)
        if number not in kept
    ]
    skipped = [*found.bad, *long]
    shown = "; ".join(skipped[:_SHOWN]) + (
        f"; and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
    )
    if long and not skip_bad:
        raise DataError(
            f"{len(long)} record(s) leave no room for a response: {shown}. Raise max_tokens, or ask to "
            "leave them out with --skip-bad"
        )
    if not kept:
        raise DataError(f"no record leaves room for a response in {max_tokens} tokens; raise it")
    if skipped:
        progress.warn(f"{len(skipped)} record(s) left out: {shown}")
    if encoded.cut:
        progress.warn(f"{encoded.cut} response(s) cut off at {max_tokens} tokens; see max_tokens")
    return encoded, skipped


def _open(out: Path, manifest: TunedManifest, *, resume: bool, overwrite: bool) -> None:
    """Make `out` with a manifest that says `training`, or make sure that it can be gone on with."""
    if out.exists():
        raw = read_json(out / TUNED_FILE, "tuned language model")
        with reading(out / TUNED_FILE, "the manifest of a tuned language model", "tune it again"):
            before = TunedManifest.build(raw)
        if resume:
            if before.model_copy(update={"status": "training", "records": manifest.records}) != (
                manifest
            ):
                raise ArtefactError(
                    f"{out} was begun with other records, another language model or another "
                    "configuration; resume with the same, or choose another folder"
                )
            if before.status == "complete":
                raise ArtefactError(f"{out} is complete; there is nothing to resume")
            return
        if not overwrite:
            raise ArtefactError(
                f"{out} already exists; choose another name, --resume it, or --overwrite it"
            )
    with atomic_folder(out, overwrite=out.exists()) as work:
        write_json(work / TUNED_FILE, manifest.model_dump(mode="json"))


def _adapter(base: SharedBase, config: TuneConfig, device: torch.device) -> Adapter:
    base.move_to(device)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, "initialise"))
        return Adapter(base, config.lora).to(device)


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
    """The adapter, or the merged model; the manifest comes last and says `complete`."""
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
        with quiet_transformers():
            model.save_pretrained(out)
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
