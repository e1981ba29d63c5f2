"""What a system is: a torch module that knows how to be trained and how to score."""

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


class SystemConfig(Config):
    """Configuration keys of every system."""

    seed: int = 42
    """Seed of all random numbers of the run."""


MODEL_FOLDER = "model"
"""The folder of a run with what a system needs beside its weights."""

ConfigT = TypeVar("ConfigT", bound=SystemConfig)


class Sizes(Config):
    """Sizes that come from the data, stored in the run so that it loads without the data set."""

    num_items: int = Field(ge=1)
    """N."""
    text_size: int = Field(0, ge=0)
    """E, width of the text embedding; 0 where the system uses none."""
    id_size: int = Field(0, ge=0)
    """Width of the item vectors taken from another run; 0 where the system takes none."""


@dataclass(frozen=True)
class Member:
    """A trained system that takes part in another."""

    name: str
    """Name of its run."""
    system: System[Any]


@dataclass(frozen=True)
class TrainingData:
    """What a system may see: the data set's training part, and embeddings made from it."""

    dataset: Dataset
    progress: Progress = SILENT
    ids: Tensor | None = None
    """[N, d] item vectors of another run over the same training part, where the system takes some."""
    members: Sequence[Member] = ()
    """Trained systems over the same data set, where the system combines some."""
    processes: Processes = ALONE
    """Those that train together."""


class System(nn.Module, ABC, Generic[ConfigT]):
    """A recommender."""

    name: ClassVar[str]
    config_class: ClassVar[type[SystemConfig]]
    uses_text: ClassVar[bool] = False
    uses_ids: ClassVar[bool] = False
    """Whether it starts from the item vectors of another run, named in its configuration `ids`."""
    yardstick: ClassVar[bool] = False
    """Whether it only counts or looks up, so that being above it does not show that a model pays."""
    combines_runs: ClassVar[bool] = False
    """Whether it is made of trained runs, named in its configuration `runs`."""
    new_items_by: ClassVar[Literal["embedding", "words"] | None] = None
    """What a system that is an `ExtendsCatalogue` goes by: a text embedding (that of its training, else
    one of the data set), or the texts themselves. None: it knows the items of its training alone."""
    redescribes_items: ClassVar[bool] = False
    """Whether a new text changes an item of the training too, or that one stays as it was learnt."""
    shards: ClassVar[Literal["frozen", "trained"] | None] = None
    """Which weights of its language models can be spread over processes (`shard`), if any. A frozen model
    is run by all processes together; of a trained one each gets a whole copy for ranking."""
    mixes_datasets: ClassVar[bool] = False
    """Whether it can learn from several data sets that are laid together (option `origins`)."""

    location_keys: ClassVar[frozenset[str]] = frozenset()
    """Dotted configuration keys that only say where something lies, which is known by its hash: they may be
    changed in a run's `config.yaml`."""

    def __init__(self, config: ConfigT, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.sizes = sizes

    @classmethod
    def load_shared(cls, config: ConfigT, progress: Progress) -> Any:
        """Load what a system of this configuration shares with others; used while the result is held."""
        return None

    @abstractmethod
    def initialise(self, data: TrainingData) -> None:
        """Compute from the training part what is not trained (counts, tables, first weights)."""

    @abstractmethod
    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """What the training loop runs, in order; none for a system that only counts."""

    @abstractmethod
    def scorer(self) -> Scorer:
        """Freeze the present weights for ranking. Later training does not change the result."""

    def rehearse(self) -> float:
        """Stand in cheaply for what `phases` prepare before a first step; nothing where that is quick.

        After it a few steps can be tried (`pipelines.estimate.trial`), not a training. Gives the
        seconds that the real preparation would take.
        """
        return 0.0

    def finish(self) -> None:
        """Let go of what only training needs; called once, after the last phase."""

    def shard(self, device: torch.device) -> None:
        """Spread its language models over the processes that train; see `shards`. Without one, nothing."""

    def reopen(self, data: TrainingData) -> None:
        """Take back what `finish` let go of, so that `phases` can be asked of a loaded system."""

    def base_reference(self) -> dict[str, Any] | None:
        """The frozen language model that the system shares and does not store, where it has one."""
        return None

    def saved_state(self) -> dict[str, Tensor]:
        """What a run stores; loading copies it into the state, in the state's number format."""
        return self.state_dict()

    def write_files(self, folder: Path) -> None:
        """Write what the system needs beside its weights (tokenizer, shapes of models), if anything."""

    def read_files(self, folder: Path) -> None:
        """Read what `write_files` wrote; called before the weights are loaded."""

    @property
    def fixed_entries(self) -> frozenset[str]:
        """Names of state entries that training never changes (a frozen text matrix, counts)."""
        return frozenset()

    @property
    def uses_language_model(self) -> bool:
        """Whether a language model, as an embedding of texts or itself, has a part in its scores."""
        return self.uses_text

    @property
    def max_len(self) -> int | None:
        """The longest history that the system reads; None reads all."""
        return None


def base_differences(
    trained: Mapping[str, Any] | None, found: Mapping[str, Any] | None
) -> str | None:
    """Where a plug-in meets another language model than it was trained with: both in words."""
    if trained is None or found is None:
        return None
    if (found["sha256"], found["num_layers"]) == (trained["sha256"], trained["num_layers"]):
        return None
    return (
        f"{trained['name']} with {trained['num_layers']} layers and weights {trained['sha256'][:12]}, but "
        f"{found['name']} has {found['num_layers']} layers and weights {found['sha256'][:12]}"
    )
