"""A language model that learns a table of item vectors, which the log trained, from the items' texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.core.phase import Phase
from seqloom.hub.quiet import quiet_transformers
from seqloom.systems.base import TrainingData
from seqloom.systems.tuned_text.base import teacher_vectors
from seqloom.systems.tuned_text.config import DistilledTuningConfig
from seqloom.systems.tuned_text.distillation import (
    DistilledTower,
    DistilPhase,
    ItemTable,
    TablePhase,
    fit_head,
)
from seqloom.systems.tuned_text.item_texts import ItemTexts
from seqloom.systems.tuned_text.language_model import choose_parameters, load_model, merge_adapters
from seqloom.systems.tuned_text.tower import TextModel
from seqloom.text.encoders.sentence import build_sentence_model
from seqloom.text.whitening import fit_whitening, whitened


class DistilledEncoder:
    """A language model under tuning in two phases; see `TunedEncoder`.

    The table starts as the model's whitened vectors beside the teacher's, and the log trains it freely. The
    model then learns it from texts alone: a pass over the catalogue costs a language model far less than one
    over the histories.
    """

    def __init__(
        self,
        name: str,
        config: DistilledTuningConfig,
        data: TrainingData,
        device: torch.device,
    ) -> None:
        self.config = config
        self._name = name
        self.device = device
        self._data = data
        plain = load_model(name, config, data.progress).to(device)
        self.texts = ItemTexts(plain, config, data.dataset, device)
        self._teacher = teacher_vectors(config.teacher, self.texts.texts, data)
        choose_parameters(plain, config)
        own = int(plain.get_embedding_dimension())
        width = own + (0 if self._teacher is None else self._teacher.shape[1])
        model, self._head = _with_head(plain, own, width)
        table = ItemTable(config, data.dataset.popularity, width)
        self.tower = DistilledTower(TextModel(model), table).to(device)

    @property
    def module(self) -> nn.Module:
        """See `TunedEncoder`."""
        return self.tower

    def phases(self) -> Sequence[Phase]:
        """See `TunedEncoder`: the table by the log, then the model by the table."""
        lengths = torch.tensor(self.texts.lengths)
        return [
            TablePhase(self.tower, self.config, self._data.dataset, self._first_vectors),
            DistilPhase(self.tower, self.config, lengths, self.encode, self._fit_head),
        ]

    def encode(self, items: Tensor) -> Tensor:
        """Encodes the texts of items as vectors of length 1. Shapes: items [M] -> [M, E]."""
        return self.texts.encode(items, self.tower.text)

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """See `TunedEncoder`: those of the phase that has begun. Shapes: [N, E]."""
        if int(self.tower.reached) < 2:
            return self.tower.table.vectors().cpu()
        return self._whole(self.encode).cpu()

    def save(self, folder: Path) -> None:
        """See `TunedEncoder`. Adapters are merged; the table is not kept."""
        model = self.tower.text.model
        merge_adapters(model)
        with quiet_transformers():
            model.save(str(folder), create_model_card=False)

    def _before_head(self, items: Tensor) -> Tensor:
        """Encodes texts as the model does without its head. Shapes: items [M] -> [M, E]."""
        return self.texts.encode(items, self.tower.text.before_head)

    def _whole(self, encode: Any) -> Tensor:
        self._data.progress.note(f"encode {len(self.texts.texts):,} texts")
        vectors: Tensor = encode(torch.arange(1, len(self.texts.texts) + 1)).float()
        return vectors

    def _first_vectors(self) -> Tensor:
        """Returns the start of the table. Shapes: [N, E].

        Raises:
            ConfigError: the model gives all texts the same vector.
        """
        own = self._whole(self._before_head).cpu()
        if torch.allclose(own, own[:1]):
            raise ConfigError(
                f"{self._name} reads all {len(own):,} texts alike (the first is {self.texts.texts[0]!r}); "
                "check `template`, or choose a model that knows their words"
            )
        fitted = fit_whitening(own, self.config.table.whitening)
        own = whitened(own, fitted.mean, fitted.matrix)
        if self._teacher is None:
            return own
        share = self.config.table.teacher_share
        return torch.cat([share**0.5 * self._teacher, (1 - share) ** 0.5 * own], dim=1)

    def _fit_head(self, table: Tensor) -> None:
        fit_head(self._head, self._whole(self._before_head), table)


def _with_head(model: Any, own: int, width: int) -> tuple[Any, nn.Linear]:
    """Appends a linear layer and scaling to length 1 to a model, in place of its own scaling."""
    from sentence_transformers.base.modules import Dense, Normalize

    modules = list(model)
    if isinstance(modules[-1], Normalize):
        modules.pop()
    head = Dense(own, width, activation_function=nn.Identity())
    limit = model.max_seq_length
    built = build_sentence_model([*modules, head, Normalize()])
    built.max_seq_length = limit
    return built, head.linear
