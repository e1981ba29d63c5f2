"""Fits a system to its data and completes the run: weights, metrics, cost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from seqloom.core.device import peak_rss_mb, resolve_device
from seqloom.core.errors import ConfigError
from seqloom.core.phase import Phase
from seqloom.core.progress import Progress
from seqloom.core.random import derive_seed
from seqloom.core.records import record_files
from seqloom.core.tensors import tensor_fingerprints
from seqloom.data.store import Dataset, HeldOut
from seqloom.distributed.dtensors import gather_state, is_sharded
from seqloom.distributed.processes import ALONE, Processes
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.protocol import PROTOCOL_VERSION
from seqloom.evaluation.ranking import rank_targets
from seqloom.pipelines.train.start_run import manifest_from_first, update_manifest
from seqloom.runs.folder import check_base
from seqloom.runs.manifest import RunManifest, TrainingCost, write_manifest
from seqloom.runs.run_files import LOG, write_model_files, write_weights
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.base_config import SystemConfig
from seqloom.systems.registry import system_class
from seqloom.training.checkpoint import Checkpoints, OthersCheckpoints, Position
from seqloom.training.log import RunLog
from seqloom.training.loop import Trainer
from seqloom.training.spread_checkpoint import SpreadCheckpoints

_VALID_METRICS = ("hr@10", "ndcg@10")
Watch = Callable[[int, dict[str, float]], None]
"""Called after each validation with the number of validations of the run so far and the metrics. An
exception that it raises ends the training, which can be resumed."""


def fit_run(
    out: Path,
    data: TrainingData,
    config: SystemConfig,
    manifest: RunManifest,
    device_name: str,
    checkpoint_every_s: float,
    watch: Watch | None,
    log: RunLog,
    *,
    fsdp: bool,
) -> RunManifest:
    """Trains the system of an unfinished run from its last checkpoint; returns the final manifest."""
    started = time.monotonic()
    processes = data.processes
    device = resolve_device(device_name)
    model, manifest = _start_on_device(out, data, config, manifest, device, fsdp=fsdp)
    # All processes run a sharded frozen model together, so they cannot score different users.
    ranking = ALONE if fsdp and model.shards == "frozen" else processes
    measure = _Validation(model, data.dataset, device, ranking)
    _warn_of_former_protocol(out, manifest, measure.held_out, data.progress)

    def validate() -> dict[str, float]:
        metrics = measure()
        if watch is not None:
            watch(1 + sum("valid" in row for row in trainer.position.history), metrics)
        return metrics

    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    phases = processes.run_in_turn(lambda: model.phases(data))
    has_targets = len(measure.held_out.users) > 0
    _check_validated(phases, has_targets)
    trainer = Trainer(
        model,
        phases,
        validate if has_targets else _no_validation,
        config.seed,
        device,
        _checkpoints(out, model, processes),
        log,
        checkpoint_every_s=checkpoint_every_s,
        progress=data.progress,
        processes=processes,
    )
    with processes.report_lost_processes():
        position = trainer.fit(resume=True)
        model.finish()
        model.eval()
        valid = position.best_metrics
        if (_round_weights(model) or not phases) and has_targets:
            valid = measure()
        saved = gather_state(model.saved_state(), keep=processes.rank == 0)
    results = {
        "trained_parameters": trained if phases else 0,
        "best_phase": position.best_phase,
        "best_epoch": position.best_epoch,
        "valid": valid,
        "cost": _cost(position, manifest, time.monotonic() - started, device, processes.size),
    }
    finish = partial(_finish_run, out, manifest, model, saved, results)
    return cast(RunManifest, manifest_from_first(processes, finish))


def _start_on_device(
    out: Path,
    data: TrainingData,
    config: SystemConfig,
    manifest: RunManifest,
    device: torch.device,
    *,
    fsdp: bool,
) -> tuple[System[Any], RunManifest]:
    """Builds the system, records its start in the manifest, and moves it to the device."""
    model = data.processes.run_in_turn(
        lambda: start_system(manifest.system, config, manifest.sizes, data)
    )
    manifest = _record_start(out, manifest, model, data.processes)
    if fsdp:
        model.shard(device)
    model.to(device)
    return model, manifest


class _Validation:
    """Ranks the validation targets with a system as it is now, and returns the metrics."""

    def __init__(
        self, model: System[Any], dataset: Dataset, device: torch.device, processes: Processes
    ) -> None:
        self._model, self._device, self._processes = model, device, processes
        self._popularity = dataset.popularity[1:]
        self._mask_seen = dataset.masks_seen
        self.held_out = dataset.held_out("valid")

    def __call__(self) -> dict[str, float]:
        ranks = rank_targets(
            self._model.scorer(),
            self.held_out,
            popularity=self._popularity,
            max_len=self._model.max_len,
            mask_seen=self._mask_seen,
            device=self._device,
            processes=self._processes,
        )
        return rank_metrics(ranks.ranks, _VALID_METRICS)


def _warn_of_former_protocol(
    out: Path, manifest: RunManifest, held_out: HeldOut, progress: Progress
) -> None:
    if manifest.valid_protocol != PROTOCOL_VERSION and bool(held_out.repeats.any()):
        progress.warn(
            f"{out} was started under a former ranking protocol, in which repeated targets nearly always "
            "won; its earlier validation metrics are too high, so an early epoch may be kept wrongly: train "
            "it again with --overwrite"
        )


def _finish_run(
    out: Path,
    manifest: RunManifest,
    model: System[Any],
    state: dict[str, torch.Tensor],
    results: dict[str, Any],
) -> RunManifest:
    """Writes the weights `state` and the files of the model, then the manifest with `results`."""
    sha256 = write_weights(out, state)
    records = manifest.records | record_files(out, [LOG] if (out / LOG).exists() else [])
    done = manifest.model_copy(
        update={
            **results,
            "status": "complete",
            "parameters": sum(t.numel() for t in model.state_dict().values()),
            "weights_sha256": sha256,
            "trained_sha256": sha256,
            "files": write_model_files(out, model),
            "records": records,
        }
    )
    write_manifest(out, done)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return done


def _checkpoints(out: Path, model: System[Any], processes: Processes) -> Checkpoints:
    folder, fixed = out / "checkpoints", model.fixed_entries
    if any(map(is_sharded, model.state_dict().values())):
        return SpreadCheckpoints(folder, fixed, processes)
    return (Checkpoints if processes.rank == 0 else OthersCheckpoints)(folder, fixed)


def _round_weights(model: System[Any]) -> bool:
    """Rounds the weights to the precision of their file; returns whether that can change them.

    The validation metrics of a run then belong to the weights in its folder.
    """
    stored, state = model.saved_state(), model.state_dict()
    if all(stored[name].dtype == state[name].dtype for name in state):
        return False
    model.load_state_dict(stored)
    return True


def start_system(name: str, config: SystemConfig, sizes: Sizes, data: TrainingData) -> System[Any]:
    """Builds a system as it is before the first step; only the configured seed decides random draws."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, "initialise"))
        model = system_class(name)(config, sizes)
        model.initialise(data)
    return model


def _record_start(
    out: Path, manifest: RunManifest, model: System[Any], processes: Processes
) -> RunManifest:
    """Records the first weights and the shared language model; a resumed run must have the same model."""
    if manifest.base is not None:
        check_base(out, manifest, model)
        return manifest
    marks = tensor_fingerprints(model.state_dict())
    return update_manifest(out, manifest, processes, base=model.base_reference(), start=marks)


def _check_validated(phases: Sequence[Phase], has_targets: bool) -> None:
    if not has_targets and any(p.validated and p.optimisation.epochs for p in phases):
        _no_validation()


def _no_validation() -> dict[str, float]:
    raise ConfigError(
        "the data set has no validation events, so there is nothing to choose the weights on; prepare it "
        "with --min-user-count 3 or more, or with another --split"
    )


def _cost(
    position: Position, manifest: RunManifest, seconds: float, device: torch.device, processes: int
) -> TrainingCost:
    rows = position.history
    return TrainingCost(
        epochs=len(rows),
        seconds_per_epoch=[row["seconds"] for row in rows],
        targets_per_epoch=max((row["targets"] for row in rows), default=0),
        seconds_total=round(max(seconds, position.logged_seconds), 3),
        members_seconds=round(sum(each.seconds_total for each in manifest.members), 3),
        peak_rss_mb=round(peak_rss_mb(), 1),
        device=str(device),
        threads=torch.get_num_threads(),
        processes=processes,
    )
