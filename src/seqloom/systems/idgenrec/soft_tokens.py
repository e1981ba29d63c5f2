"""The way from the recommender's loss to the generator: IDs as mixtures of the recommender's tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.llm.text_model import END, TextModel


def soft_tokens(
    generator: TextModel, recommender: TextModel, tokens: Tensor, mask: Tensor, ids: Tensor
) -> Tensor:
    """For each place of an item's ID the recommender's embeddings, weighted by the generator's probabilities.

    The generator reads the item's text and, at each place, the ID before it. Places at and after the end
    mark are zero: they belong to no word.

    Source: IDGenRec (arXiv 2403.19021), section 3.3.
    Differs: probabilities, where the authors' code mixes with log-probabilities; what follows the end is
        masked, where the authors' code is not.

    Shapes: tokens, mask [M, P] the generator's prompts, ids [M, T] output numbers -> [M, T, D].
    """
    logits = generator.logits(generator.embed(tokens), mask, ids)
    mixed = logits.softmax(-1) @ recommender.output_embeddings()
    return torch.where((ids > END)[..., None], mixed, 0.0)


def lay_in(embeddings: Tensor, soft: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Replace the places of a prompt that belong to items with soft tokens.

    Shapes: embeddings [B, P, D], soft [M, T, D], rows [B, L] the row of `soft` of each history item or -1,
    places [B, P] as `Prompts.places` -> [B, P, D].
    """
    width = soft.shape[1]
    item = (places // width).clamp(min=0)
    row = rows.gather(1, item)
    known = (places >= 0) & (row >= 0)
    taken = soft[row.clamp(min=0), places % width]  # [B, P, D]
    return torch.where(known[..., None], taken.to(embeddings.dtype), embeddings)
