"""Reads the item vectors of one run, which another takes as its frozen ID embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.protocols import ItemVectorSource, TakesItemVectors, VectorScorer
from seqloom.data.store import Dataset
from seqloom.pipelines.train.start_run import sizes_of
from seqloom.runs.folder import load_run
from seqloom.runs.manifest import check_fingerprint
from seqloom.systems.base import Member, Sizes
from seqloom.systems.base_config import SystemConfig
from seqloom.systems.registry import system_class


@dataclass(frozen=True)
class ItemVectors:
    """Item vectors and the run that they come from."""

    vectors: Tensor
    """[N, d] float32; row i belongs to item number i + 1."""
    giver: Member
    """The trained system."""
    reference: dict[str, Any]


def configured_item_vectors(dataset: Dataset, source: ItemVectorSource) -> ItemVectors | None:
    """Reads the item vectors of the run that `source` names; None if it names none.

    Raises:
        ConfigError: the system has no item vectors (its score is no dot product).
        ArtefactError: the run is missing, unfinished or of another data set.
    """
    return None if source.run is None else read_item_vectors(dataset, Path(source.run))


def item_vector_size(dataset: Dataset, source: ItemVectorSource) -> int:
    """Returns the width of the item vectors that `source` names, or that are yet to be trained.

    Raises:
        ConfigError: the system has no item vectors, or its configuration is bad.
        ArtefactError: the run is missing, unfinished or of another data set.
    """
    table = configured_item_vectors(dataset, source)
    if table is not None:
        return table.vectors.shape[1]
    cls = system_class(source.system)
    if not hasattr(cls, "vector_size"):
        raise ConfigError(
            f"ids.system is {source.system!r}, which has no vector for each item; take sasrec, llmesr "
            "or another system that scores by dot products"
        )
    config = cls.config_class.build(source.config)
    with torch.device("meta"):
        system: Any = cls(config, sizes_of(dataset, config))
    return int(system.vector_size)


def sizes_with_ids(dataset: Dataset, config: SystemConfig) -> Sizes:
    """Returns the sizes of a system, with the width of the item vectors if it starts from some.

    Raises:
        SeqloomError: as `item_vector_size`.
    """
    sizes = sizes_of(dataset, config)
    if not isinstance(config, TakesItemVectors):
        return sizes
    width = item_vector_size(dataset, config.item_vector_source)
    return sizes.model_copy(update={"id_size": width})


def read_item_vectors(dataset: Dataset, path: Path) -> ItemVectors:
    """Reads the item vectors of the run at `path`.

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
    return ItemVectors(
        scorer.item_vectors.detach().to(torch.float32).clone(),
        Member(run.name, run.system),
        {
            "run": str(path.resolve()),
            "system": run.manifest.system,
            "weights_sha256": run.manifest.weights_sha256,
        },
    )
