"""Checks a run: recomputes its counts, start and batches without held-out events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqloom.core.errors import SeqloomError
from seqloom.core.progress import Progress
from seqloom.core.protocols import NamesItems
from seqloom.core.tensors import differing_tensors, tensor_fingerprints
from seqloom.data.store import Dataset
from seqloom.data.training_only import training_only
from seqloom.pipelines.audit.batches import first_epochs
from seqloom.pipelines.audit.names import check_earlier_run, check_names, check_prompts
from seqloom.pipelines.audit.report import Checks
from seqloom.pipelines.train.fit_run import start_system
from seqloom.pipelines.train.item_vectors import ItemVectors, read_item_vectors
from seqloom.runs.folder import Run, load_run
from seqloom.runs.manifest import check_fingerprint
from seqloom.systems.base import System, TrainingData
from seqloom.systems.ensemble.system import Ensemble
from seqloom.text.store import read_manifest

_TRAINING = "training part"
_AGAIN = "train again"


def check_run(
    run: Run, data: Dataset, checks: Checks, *, thorough: bool, progress: Progress
) -> None:
    """Checks training part, popularity, text, start, batches, textual IDs, and the runs that this one used.

    An ensemble is not trained; its members are checked instead.
    """
    blind = training_only(data)
    _check_reference(run, data, checks)
    _check_popularity(run, blind, checks)
    if isinstance(run.system, Ensemble):
        _check_members(run, run.system, data, checks, thorough=thorough, progress=progress)
        return
    _check_text(run, data, checks)
    vectors = _check_item_vectors(run, data, checks, thorough=thorough, progress=progress)
    if vectors is not None:
        _check_start(run, TrainingData(blind, ids=vectors.vectors, giver=vectors.giver), checks)
    elif run.manifest.ids is None:
        _check_start(run, TrainingData(blind), checks)
    _check_batches(run, data, blind, checks)
    if isinstance(run.system, NamesItems):
        check_names(run, run.system, blind, checks, thorough=thorough, progress=progress)
        check_prompts(run.system, blind, checks)
        earlier = check_earlier_run(run.system, data, checks)
        if earlier is not None:
            within, earlier_data = checks.within("continued run"), earlier.dataset()
            check_run(earlier, earlier_data, within, thorough=thorough, progress=progress)


def check_catalogue(run: Run, data: Dataset, checks: Checks) -> None:
    """Checks that a run knows the warm items of its data set and no cold one."""
    cold = set(data.item_ids) - set(data.warm.item_ids)
    known = run.item_ids[: run.trained_items]
    leaked = len(cold.intersection(known))
    checks.judge(
        "catalogue of the run",
        "items that are not cold",
        known == data.warm.item_ids,
        good=f"{len(known):,} items, none of the {len(cold):,} cold ones",
        bad=f"{leaked} cold items are in it" if leaked else "it is not that of the data set",
        action=_AGAIN,
    )


def _check_reference(run: Run, data: Dataset, checks: Checks) -> None:
    what = ("the run's training part", "events before the held-out ones")
    recorded = run.manifest.dataset.training
    if not recorded:
        checks.unknown(*what, "an older seqloom made the run and kept no hash", _AGAIN)
        return
    checks.judge(
        *what,
        recorded == data.training_hash,
        good=f"the run kept the hash of the data set's ({recorded[:12]})",
        bad=f"the run was trained on {recorded[:12]}, the data set has {data.training_hash[:12]}",
        action=_AGAIN,
    )


def _check_popularity(run: Run, blind: Dataset, checks: Checks) -> None:
    counts = run.popularity
    if counts is None:
        checks.unknown("popularity", _TRAINING, "an older seqloom made the run and kept none")
        return
    wrong = int((counts[: run.trained_items] != blind.popularity[1 : run.trained_items + 1]).sum())
    checks.judge(
        "popularity",
        _TRAINING,
        not wrong,
        good="counted again from the training part",
        bad=f"{wrong} items have another count than in the training part",
        action=_AGAIN,
    )


def _check_text(run: Run, data: Dataset, checks: Checks) -> None:
    for recorded in run.manifest.texts:
        _check_embedding(recorded, data, checks)


def _check_embedding(recorded: dict[str, Any], data: Dataset, checks: Checks) -> None:
    what = (f"text of the run, {recorded['name']!r}", "item texts; users' training part")
    try:
        manifest = read_manifest(data, recorded["name"])
    except SeqloomError as error:
        checks.unknown(*what, str(error), "embed again under that name, or train again")
        return
    now = manifest.model_dump(mode="json")
    same = all(
        (recorded.get(part) or {}).get("content_hash") == (now[part] or {}).get("content_hash")
        for part in ("items", "users")
    )
    checks.judge(
        *what,
        same,
        good="the data set's embeddings of that name, checked above",
        bad="the run was trained with other embeddings than the present ones",
        action=_AGAIN,
    )


def _check_item_vectors(
    run: Run, data: Dataset, checks: Checks, *, thorough: bool, progress: Progress
) -> ItemVectors | None:
    """Returns the item vectors that the run started from; None if it has none or they are missing."""
    recorded = run.manifest.ids
    if recorded is None:
        return None
    what = ("item vectors of another run", _TRAINING)
    own = run.path / "ids"
    path = own if own.exists() else Path(recorded["run"])
    try:
        other = load_run(path)
        table = read_item_vectors(data, path)
    except SeqloomError as error:
        checks.unknown(*what, str(error), "keep the run that supplied them")
        return None
    checks.judge(
        *what,
        table.reference["weights_sha256"] == recorded["weights_sha256"],
        good=f"those of {path}, which is checked too",
        bad=f"{path} is no longer the run that supplied them",
        action=_AGAIN,
    )
    within = checks.within("ids")
    check_run(other, data, within, thorough=thorough, progress=progress)
    return table


def _check_members(
    run: Run,
    ensemble: Ensemble,
    data: Dataset,
    checks: Checks,
    *,
    thorough: bool,
    progress: Progress,
) -> None:
    """Checks that each member equals its run, and checks that run."""
    members = zip(ensemble.names, ensemble.systems, run.manifest.members, strict=True)
    for name, held, recorded in members:
        within = checks.within(f"member {name}")
        what = ("weights", "what its own run may see")
        try:
            member = load_run(recorded.run)
            check_fingerprint(member.manifest, data)
        except SeqloomError as error:
            within.unknown(*what, str(error), "keep the run that the ensemble was made of")
            continue
        within.judge(
            *what,
            member.manifest.weights_sha256 == recorded.weights_sha256
            and _equal_tensors(held, member.system),
            good=f"those of {recorded.run}, which is checked too",
            bad=f"{recorded.run} is no longer the run that the ensemble was made of",
            action=_AGAIN,
        )
        check_run(member, data, within, thorough=thorough, progress=progress)
    checks.unknown(
        "weights of the members",
        "validation part",
        "an audit does not fit them again",
        f"seqloom reproduce {run.path}",
    )


def _equal_tensors(held: System[Any], own: System[Any]) -> bool:
    """Returns whether two systems have equal tensors, up to the rounding of their files."""
    first, second = held.state_dict(), own.state_dict()
    return first.keys() == second.keys() and all(
        first[name].shape == second[name].shape and _close(first[name], second[name])
        for name in first
    )


def _check_start(run: Run, blind: TrainingData, checks: Checks) -> None:
    """Builds the system from the training part alone and compares its first weights with the run's."""
    manifest = run.manifest
    sizes = manifest.sizes.model_copy(update={"num_items": run.trained_items})
    what = ("start of the weights", "training part; texts; item vectors of another run")
    try:
        fresh = start_system(manifest.system, run.system.config, sizes, blind)
    except SeqloomError as error:
        checks.unknown(*what, f"the system cannot be built from the training part alone: {error}")
        return
    if manifest.start:
        wrong = differing_tensors(manifest.start, tensor_fingerprints(fresh.state_dict()))
        checks.judge(
            *what,
            not wrong,
            good=f"{len(manifest.start)} tensors, made again, are those that the run started with",
            bad=f"{len(wrong)} tensors started differently, the first is {wrong[0] if wrong else ''}",
            action=_AGAIN,
        )
    else:
        checks.unknown(
            *what, "an older seqloom made the run and kept no fingerprints of tensors", _AGAIN
        )
    _check_constants(run, fresh, checks)


def _check_constants(run: Run, fresh: System[Any], checks: Checks) -> None:
    """Recomputes the tensors that training never changes."""
    state = run.system.state_dict()
    counted = not run.manifest.trained_parameters
    names = sorted(state if counted else fresh.fixed_entries)
    if not names:
        return
    wrong = [name for name in names if not _close(state[name], fresh.state_dict()[name])]
    checks.judge(
        "counts and neighbours" if counted else "frozen tensors",
        _TRAINING if counted else f"{_TRAINING}; texts; item vectors of another run",
        not wrong,
        good=f"{', '.join(names)}: made again",
        bad=f"{', '.join(wrong)}: not reproduced from the allowed data",
        action=_AGAIN,
    )


def _close(kept: Tensor, remade: Tensor) -> bool:
    kept = kept[: len(remade)] if remade.ndim else kept
    if kept.shape != remade.shape:
        return False
    return torch.allclose(kept.double(), remade.double(), rtol=2e-3, atol=1e-4)


def _check_batches(run: Run, data: Dataset, blind: Dataset, checks: Checks) -> None:
    """Compares the first epoch of training with and without the held-out events."""
    if run.manifest.added_items:
        why = "items were added since; audit the run without them"
        checks.unknown("training batches", _TRAINING, why)
        return
    try:
        seen = first_epochs(load_run(run.path).system, TrainingData(data))
        unseen = first_epochs(load_run(run.path).system, TrainingData(blind))
    except SeqloomError as error:
        why = f"training cannot start from the training part alone: {error}"
        checks.unknown("training batches", _TRAINING, why)
        return
    if not seen:
        return
    pairs = {name: (seen[name], unseen[name]) for name in seen if name in unseen}
    unpaired = sorted(seen.keys() ^ unseen.keys())
    batches = unpaired + [name for name, (a, b) in pairs.items() if a.batches != b.batches]
    losses = unpaired + [name for name, (a, b) in pairs.items() if not a.same_loss(b)]
    action = "this is a fault of the system's code; do not trust its metrics"
    checks.judge(
        "training batches",
        _TRAINING,
        not batches,
        good=f"the same with and without held-out events, first epoch of {', '.join(seen)}",
        bad=f"held-out events change the batches of {', '.join(batches)}",
        action=action,
    )
    checks.judge(
        "training losses",
        f"{_TRAINING}: prompts, teachers, negatives, counts",
        not losses,
        good=f"the same with and without held-out events, first batch of {', '.join(seen)}",
        bad=f"held-out events change the loss of {', '.join(losses)}",
        action=action,
    )
