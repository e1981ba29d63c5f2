"""The semantic view of LLM-ESR: item vectors from texts."""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from seqloom.systems.llmesr.config import SemanticConfig
from seqloom.systems.text_start import check_spread
from seqloom.text.pca import principal_axes


class SemanticView(nn.Module):
    """s_i = W2 (W1 e_i + b1) + b2 over a frozen text embedding e_i.

    Source: LLM-ESR, eq. 2.
    Differs: the two linear maps are multiplied first, since no activation lies between them; a step then
    costs one product over the catalogue.
    """

    text: Tensor

    def __init__(
        self, config: SemanticConfig, num_items: int, text_size: int, hidden_size: int
    ) -> None:
        super().__init__()
        self.config = config
        text = torch.zeros(num_items, text_size)
        if config.trained_text:
            self.text = nn.Parameter(text)
        else:
            self.register_buffer("text", text)
        inner = config.adapter_size or max(text_size // 2, hidden_size)
        widths = (
            [text_size, hidden_size]
            if config.adapter_layers == 1
            else [text_size, inner, hidden_size]
        )
        self.adapter = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    @torch.no_grad()
    def initialise(self, text: Tensor, std: float, whitening: float) -> None:
        """Copies the text embedding, and scales the adapter's output to mean 0 and standard deviation `std`.

        Raises:
            ConfigError: all texts have the same embedding.

        Shapes: text [N, E].
        """
        check_spread(text)
        self.text.copy_(text)
        for layer in self._layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.config.adapter_start == "pca":
            self._project_on_axes(whitening)
        first, last = self._layers[0], self._layers[-1]
        out = self()
        first.weight.mul_(std / float((out - out.mean(0)).std()))
        last.bias.sub_(self().mean(0))

    def forward(self) -> Tensor:
        """Returns the semantic vector of every item. Shapes: [N, D]."""
        return self.project(self.text)

    def project(self, text: Tensor) -> Tensor:
        """Maps text embeddings to semantic vectors. Shapes: [M, E] -> [M, D]."""
        # Multiply the linear maps into one.
        first, *others = self._layers
        weight: Tensor = first.weight * self.config.text_scale
        bias: Tensor = first.bias
        for layer in others:
            weight = layer.weight @ weight
            bias = layer.weight @ bias + layer.bias
        return torch.addmm(bias, text, weight.t())

    @property
    def _layers(self) -> list[nn.Linear]:
        return [cast(nn.Linear, layer) for layer in self.adapter]

    def _project_on_axes(self, whitening: float) -> None:
        """Initialises the adapter as a projection on the first, weighted principal axes."""
        first, *others = self._layers
        kept = min(len(first.weight), *self.text.shape)
        first.weight.zero_()
        first.weight[:kept] = principal_axes(self.text, kept).weighted(whitening).t().float()
        for layer in others:
            nn.init.eye_(layer.weight)
