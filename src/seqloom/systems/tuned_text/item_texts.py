"""The item texts of a data set, as a language model under tuning reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqloom.data.store import Dataset
from seqloom.hub.quiet import quiet_transformers
from seqloom.systems.tuned_text.config import LanguageModelTuningConfig
from seqloom.text.encoders.base import text_batches
from seqloom.text.prompts import item_prompts


class ItemTexts:
    """The texts of the catalogue and the tokenizer of a sentence-transformers model.

    Attributes:
        texts: the text of each item, row j for item number j + 1; "" if it has none.
        lengths: tokens of each text, after truncation.
    """

    def __init__(
        self,
        model: Any,
        config: LanguageModelTuningConfig,
        dataset: Dataset,
        device: torch.device,
    ) -> None:
        """Lowers the model's limit of tokens to that of the configuration."""
        model.max_seq_length = min(config.max_tokens, model.max_seq_length or config.max_tokens)
        self.texts = [text or "" for text in item_prompts(dataset, config.template).texts]
        self._model = model
        self._device = device
        self._chunk = config.chunk
        with quiet_transformers():
            rows = model.tokenizer(self.texts, truncation=True, max_length=model.max_seq_length)
        self.lengths = [len(ids) for ids in rows["input_ids"]]

    def encode(self, items: Tensor, embed: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        """Encodes the texts of items chunk by chunk; only one chunk's activations are in memory.

        The activations of several chunks are computed again when their gradients are needed.
        Source: Gao et al. 2021 (arXiv 2101.06983), with the recomputation of torch's checkpoint.

        Args:
            embed: encodes tokenised texts as vectors. Shapes: [B, T] -> [B, E].

        Shapes: items [M] item numbers -> [M, E].
        """
        rows = (items - 1).tolist()
        chunks = text_batches([self.lengths[row] for row in rows], self._chunk)
        again = torch.is_grad_enabled() and len(chunks) > 1
        order: list[int] = []
        parts = []
        for chunk in chunks:
            features = self._tokenise([self.texts[rows[place]] for place in chunk])
            if again:
                parts.append(checkpoint(embed, features, use_reentrant=False))
            else:
                parts.append(embed(features))
            order += chunk
        back = torch.tensor(order, device=self._device).argsort()
        return torch.cat(parts)[back]

    def _tokenise(self, texts: list[str]) -> dict[str, Tensor]:
        with quiet_transformers():
            features = self._model.preprocess(texts)
        return {
            name: value.to(self._device) if isinstance(value, Tensor) else value
            for name, value in features.items()
        }
