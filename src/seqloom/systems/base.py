"""The base class of systems: torch modules with training phases and a scorer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from seqloom.core.config import Config
from seqloom.core.phase import Phase
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import Scorer
from seqloom.data.store import Dataset
from seqloom.distributed.processes import ALONE, Processes
from seqloom.systems.answers import Answers
from seqloom.systems.base_config import SystemConfig

MODEL_FOLDER = "model"
"""Folder of a run with the files that a system needs besides its weights."""

ConfigT = TypeVar("ConfigT", bound=SystemConfig)


class Sizes(Config):
    """What a system is built from; stored in the run, so that it loads without the data set."""

    num_items: int = Field(ge=1)
    """Number of items, N."""
    text_size: int = Field(0, ge=0)
    """Width of the text embedding, E; 0 if the system uses none."""
    text_by_language_model: bool = True
    """Whether a language model made a text embedding that the system uses."""
    id_size: int = Field(0, ge=0)
    """Width of the item vectors of another run; 0 if the system uses none."""


@dataclass(frozen=True)
class Member:
    """A trained system within an ensemble."""

    name: str
    """Name of its run."""
    system: System[Any]


@dataclass(frozen=True)
class TrainingData:
    """The data that a system may see: the training part of a data set, and embeddings made from it."""

    dataset: Dataset
    progress: Progress = SILENT
    ids: Tensor | None = None
    """[N, d] item vectors of another run over the same training part, if the system uses them."""
    giver: Member | None = None
    """The trained system that the item vectors in `ids` come from, if the system uses it."""
    members: Sequence[Member] = ()
    """Trained systems over the same data set, if the system combines them."""
    processes: Processes = ALONE
    """The processes that train together."""


class System(nn.Module, ABC, Generic[ConfigT]):
    """A recommender."""

    name: ClassVar[str]
    config_class: ClassVar[type[SystemConfig]]
    uses_ids: ClassVar[bool] = False
    """Whether it starts from the item vectors of another run (`core.protocols.TakesItemVectors`)."""
    yardstick: ClassVar[bool] = False
    """Whether it is a simple baseline without a model, such as popularity."""
    combines_runs: ClassVar[bool] = False
    """Whether it is made of trained runs (`core.protocols.CombinesRuns`)."""
    new_items_by: Literal["embedding", "words"] | None = None
    """Source of new items of a system that is an `ExtendsCatalogue`: a text embedding (that of its
    training, else one of the data set), or the texts themselves. None: it cannot add items."""
    redescribes_items: ClassVar[bool] = False
    """Whether a new text also changes an item of the training, or only new items."""
    shards: ClassVar[Literal["frozen", "trained"] | None] = None
    """Which weights of its language models can be sharded over processes (`shard`), if any. All processes
    run a frozen model together; for ranking with a trained one, each gets a whole copy."""
    mixes_datasets: ClassVar[bool] = False
    """Whether it can learn from several merged data sets (option `origins`)."""

    location_keys: ClassVar[frozenset[str]] = frozenset()
    """Dotted configuration keys of locations whose content is identified by a hash: users may change
    them in a run's `config.yaml`."""

    def __init__(self, config: ConfigT, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.sizes = sizes
        self.remembered: Answers | None = None
        """What was worked out about histories, while no weight changes that it depends on."""

    @classmethod
    def load_shared(cls, config: ConfigT, progress: Progress) -> Any:
        """Loads what systems of this configuration share, for as long as the result is referenced."""
        return None

    @abstractmethod
    def initialise(self, data: TrainingData) -> None:
        """Computes untrained state from the training part: counts, tables, initial weights."""

    @abstractmethod
    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns the training phases in order; none for a system that is not trained."""

    @abstractmethod
    def scorer(self) -> Scorer:
        """Returns a scorer with the present weights; later training does not change its scores."""

    def rehearse(self) -> float:
        """Replaces slow preparations of the first step by cheap ones, so that steps can be timed.

        Afterwards only a trial (`pipelines.estimate.trial`) is possible, not a training. Returns the
        seconds that the real preparations would take.
        """
        return 0.0

    def finish(self) -> None:
        """Drops what only training needs. The training calls it after the last phase."""

    def shard(self, device: torch.device) -> None:
        """Shards its language models, if any, over the training processes; see `shards`."""

    def reopen(self, data: TrainingData) -> None:
        """Restores what `finish` dropped, so that `phases` works on a loaded system."""

    def base_reference(self) -> dict[str, Any] | None:
        """Returns the identity of the shared frozen language model, which runs do not store, if any."""
        return None

    def saved_state(self) -> dict[str, Tensor]:
        """Returns the tensors that a run stores; loading casts them to the types of the state."""
        return self.state_dict()

    def write_files(self, folder: Path) -> None:
        """Writes the files that the system needs besides its weights (tokenizer, shapes of models)."""

    def read_files(self, folder: Path) -> None:
        """Reads the files of `write_files`, before the weights are loaded."""

    @property
    def fixed_entries(self) -> frozenset[str]:
        """Names of state entries that training never changes, such as a frozen text matrix."""
        return frozenset()

    @property
    def uses_language_model(self) -> bool:
        """Whether its scores depend on a language model, directly or through a text embedding.

        Hashed words, and words that the log taught from random vectors, are no language model.
        """
        return bool(self.config.embeddings) and self.sizes.text_by_language_model

    @property
    def reads_text(self) -> bool:
        """Whether its scores depend on the items' texts."""
        return bool(self.config.embeddings)

    @property
    def max_len(self) -> int | None:
        """The longest history that the system reads; None for no limit."""
        return None


def base_differences(
    trained: Mapping[str, Any] | None, present: Mapping[str, Any] | None
) -> str | None:
    """Describes how the present language model of a plug-in differs from that of its training, if it does."""
    if trained is None or present is None:
        return None
    if (present["sha256"], present["num_layers"]) == (trained["sha256"], trained["num_layers"]):
        return None
    return (
        f"{trained['name']} with {trained['num_layers']} layers and weights {trained['sha256'][:12]}, but "
        f"{present['name']} has {present['num_layers']} layers and weights {present['sha256'][:12]}"
    )
