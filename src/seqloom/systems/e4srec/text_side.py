"""The text score of E4SRec: candidates as words, histories as their text and a state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqloom.nn.attention import last_position
from seqloom.systems.base import Sizes
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.texttower import TextTower


class TextSide(nn.Module):
    """score = direction(r + gate * P h) . t_i / temperature, where t_i is the text vector of item i.

    r is the direction of the recency-weighted sum of the history's text vectors, and h the state of the
    language model. The gate starts at 0, so that the score starts as that of a text tower.

    Source: none in E4SRec; both sides as text is TASTE's (Liu et al., CIKM 2023), see `TextTower`.
    """

    def __init__(self, config: E4SRecConfig, sizes: Sizes, width: int) -> None:
        """`width` is D, that of the language model's states."""
        super().__init__()
        encoder = config.tower.encoder.model_copy(update={"max_len": config.max_len})
        update = {"seed": config.seed, "encoder": encoder}
        self.tower = TextTower(
            config.tower.model_copy(update=update), Sizes(num_items=sizes.num_items)
        )
        self.projection = nn.Linear(width, self.size)
        self.gate = nn.Parameter(torch.zeros(self.size))

    @property
    def size(self) -> int:
        """D', the width of text vectors."""
        return self.tower.vector_size

    @property
    def reads_states(self) -> bool:
        """Whether the language model takes part: not before it is trained."""
        return bool(self.gate.any())

    @torch.no_grad()
    def initialise(self, rotation: Tensor, spread: Tensor) -> None:
        """Starts the projection as the way back from the projected text, on the scale of directions.

        Shapes: rotation [D', D], rows of the map from text into the language model; spread scalar, the
        root mean square of its states.
        """
        nn.init.zeros_(self.projection.bias)
        self.projection.weight.copy_(rotation / (spread * self.size**0.5))

    def readable(self, vectors: Tensor) -> Tensor:
        """Scales text vectors to mean square 1, as inputs of a language model. Shapes: [N, D'] -> [N, D']."""
        return vectors * self.size**0.5

    def states(self, items: Tensor, lengths: Tensor, vectors: Tensor, read: Tensor) -> Tensor:
        """Returns the state at every item.

        Shapes: items [B, L], lengths [B], vectors [N, D'], read [B, L, D], the language model's states
        -> [B, L, D'].
        """
        directions = self.tower.directions(items, lengths, vectors)
        return self.tower.scaled(directions + self.gate * self.projection(read))

    def last_states(
        self, items: Tensor, lengths: Tensor, vectors: Tensor, read: Tensor | None
    ) -> Tensor:
        """Returns the state after each history; without `read`, that of the text alone.

        Shapes: items [B, L], lengths [B], vectors [N, D'], read [B, D] -> [B, D'].
        """
        direction = last_position(self.tower.directions(items, lengths, vectors), lengths)
        if read is not None:
            direction = direction + self.gate * self.projection(read)
        return self.tower.scaled(direction)
