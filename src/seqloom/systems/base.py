"""What a system is: a torch module that knows how to be trained and how to score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import pyarrow as pa
from pydantic import Field
from torch import Tensor, nn

from seqloom.core.config import Config
from seqloom.core.phase import Phase
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import Scorer
from seqloom.data.store import Dataset


class SystemConfig(Config):
    """Keys that every system has."""

    seed: int = 42
    """Seed of every random draw of the run."""


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
class TrainingData:
    """What a system may see: the data set's training part, and embeddings made from it."""

    dataset: Dataset
    progress: Progress = SILENT
    ids: Tensor | None = None
    """[N, d] item vectors of another run over the same training part, where the system takes some."""


@runtime_checkable
class NamesItems(Protocol):
    """A system that knows items by their texts, so that new ones need no training."""

    def texts_of(self, items: pa.Table) -> list[str]:
        """What the system reads of items: one text for each row."""

    def add_items(self, texts: Sequence[str], item_ids: Sequence[str]) -> list[str]:
        """Put items after those of the catalogue; gives their names."""


class System(nn.Module, ABC, Generic[ConfigT]):
    """A recommender."""

    name: ClassVar[str]
    config_class: ClassVar[type[SystemConfig]]
    uses_text: ClassVar[bool] = False
    uses_ids: ClassVar[bool] = False
    """Whether it starts from the item vectors of another run, named in its configuration `ids`."""
    item_tables: ClassVar[tuple[str, ...]] = ()
    """State entries with one row an item that can be inferred from its text; all it takes for a run
    to recommend a new item, and to read it in a history."""
    mixes_datasets: ClassVar[bool] = False
    """Whether it can learn from several data sets that are laid together (option `origins`)."""

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

    def finish(self) -> None:
        """Let go of what only training needs; called once, after the last phase."""

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
    def max_len(self) -> int | None:
        """The longest history that the system reads; None reads all."""
        return None
