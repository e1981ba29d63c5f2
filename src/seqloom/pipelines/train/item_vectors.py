"""Item vectors of one run as the frozen ID embeddings of another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.progress import Progress
from seqloom.core.protocols import VectorScorer
from seqloom.data.store import Dataset
from seqloom.distributed.processes import ALONE, Processes
from seqloom.pipelines.train.start_run import sizes_of
from seqloom.runs.folder import load_run
from seqloom.runs.manifest import check_fingerprint
from seqloom.systems.e4srec.config import IdsConfig
from seqloom.systems.registry import system_class
from seqloom.systems.sequence import SequenceSystem


@dataclass(frozen=True)
class IdTable:
    """ID embeddings and where they come from."""

    vectors: Tensor
    """[N, d] float32; row i belongs to item number i + 1."""
    reference: dict[str, Any]


def given_ids(dataset: Dataset, config: IdsConfig) -> IdTable | None:
    """The item vectors of the run that `config` names; None where it names none.

    Raises:
        ConfigError: the system has no item vectors (its score is no dot product).
        ArtefactError: the run is missing, unfinished or of another data set.
    """
    return None if config.run is None else read_ids_of(dataset, Path(config.run))


def trained_ids(
    dataset: Dataset,
    config: IdsConfig,
    out: Path,
    *,
    seed: int,
    device: str,
    progress: Progress,
    processes: Processes = ALONE,
) -> IdTable:
    """The item vectors of a run of `config.system` at `out`; one that was begun there is gone on with.

    Raises:
        ConfigError: the system has no item vectors, or its configuration is bad.
    """
    # The stage that calls this one: the run of the IDs is an ordinary run.
    from seqloom.pipelines.train.train import train

    progress.note(f"training {config.system} for the ID embeddings, into {out}")
    train(
        dataset,
        config.system,
        out=out,
        config={"seed": seed, **config.config},
        resume=True,
        device=device,
        progress=progress,
        processes=processes,
    )
    return read_ids_of(dataset, out)


def id_size(dataset: Dataset, config: IdsConfig) -> int:
    """The width of the ID embeddings that `config` names, or that are to be trained.

    Raises:
        ConfigError: the system has no item vectors, or its configuration is bad.
        ArtefactError: the run is missing, unfinished or of another data set.
    """
    given = given_ids(dataset, config)
    if given is not None:
        return given.vectors.shape[1]
    cls = system_class(config.system)
    if not issubclass(cls, SequenceSystem):
        raise ConfigError(
            f"ids.system is {config.system!r}, which has no vector for each item; take sasrec, llmesr "
            "or another system that scores by dot products"
        )
    own = cls.config_class.build(config.config)
    with torch.device("meta"):
        return int(cls(own, sizes_of(dataset, cls, own)).vector_size)


def read_ids_of(dataset: Dataset, path: Path) -> IdTable:
    """The item vectors of the run at `path`.

    Raises:
        ConfigError: the system has no item vectors.
        ArtefactError: the run is missing, unfinished or of another data set.
    """
    run = load_run(path)
    check_fingerprint(run.manifest, dataset)
    scorer = run.scorer
    if not isinstance(scorer, VectorScorer) or len(scorer.item_vectors) != dataset.num_items:
        raise ConfigError(
            f"{path} is a run of {run.manifest.system!r}, which has no vector for each item of the data "
            "set; take a run of sasrec, llmesr or another system that scores by dot products"
        )
    return IdTable(
        scorer.item_vectors.detach().to(torch.float32).clone(),
        {
            "run": str(path.resolve()),
            "system": run.manifest.system,
            "weights_sha256": run.manifest.weights_sha256,
        },
    )
