"""Soft tokens, which carry the gradient of the recommender's loss to the generator."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.llm.generation.text_model import END, TextModel


def soft_tokens(
    generator: TextModel,
    recommender: TextModel,
    tokens: Tensor,
    mask: Tensor,
    ids: Tensor,
    choices: Tensor,
) -> Tensor:
    """Returns the recommender's embeddings of IDs, with the gradient of a mixture by the generator.

    The value at each place is the embedding of the ID's token, so the recommender reads exactly the ID of the
    table. The gradient is that of the mean embedding of the tokens that compete there, weighted by the
    generator's probabilities among them (straight-through). Places at and after the end mark are zero, since
    they belong to no word.

    Source: IDGenRec (arXiv 2403.19021), section 3.3; straight-through: Bengio et al., arXiv 1308.3432.
    Differs: probabilities, where the authors' code mixes with log-probabilities; among the tokens that
        generation allows at the place, where the paper mixes the whole vocabulary, most of which no ID can
        hold; the recommender reads the ID itself, where the paper's reads the mixture, which is no word that
        it was trained on; the generator reads the table's ID before each place, where the authors' code
        generates it again in each step; what follows the end is masked, where the authors' code is not.

    Shapes: tokens, mask [M, P] the generator's prompts, ids [M, T] output numbers, choices [M, T, V'] bool
    -> [M, T, D].
    """
    mixed = mixtures(generator, recommender, tokens, mask, ids, choices)
    words = (ids > END)[..., None]
    hard = torch.where(words, recommender.embed_outputs(ids.clamp(min=END)), 0.0)
    return hard + (mixed - mixed.detach()).to(hard.dtype)  # the bracket is 0 but for its gradient


def mixtures(
    generator: TextModel,
    recommender: TextModel,
    tokens: Tensor,
    mask: Tensor,
    ids: Tensor,
    choices: Tensor,
) -> Tensor:
    """Returns the mean embedding of the competing tokens at each place; zero if there are none.

    Shapes: as `soft_tokens`.
    """
    logits = generator.logits(generator.embed(tokens), mask, ids)
    some = choices.any(-1, keepdim=True)
    # Probabilities among the competing tokens only.
    shares = logits.masked_fill(~choices & some, float("-inf")).softmax(-1)
    return torch.where(some, shares @ recommender.output_embeddings(), 0.0)


def lay_in(embeddings: Tensor, soft: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Replaces the places of a prompt that belong to items with soft tokens.

    Shapes: embeddings [B, P, D], soft [M, T, D], rows [B, L] the row of `soft` of each history item or -1,
    places [B, P] as `Prompts.places` -> [B, P, D].
    """
    width = soft.shape[1]
    item = (places // width).clamp(min=0)
    row = rows.gather(1, item)
    known = (places >= 0) & (row >= 0)
    taken = soft[row.clamp(min=0), places % width]  # [B, P, D]
    return torch.where(known[..., None], taken.to(embeddings.dtype), embeddings)
