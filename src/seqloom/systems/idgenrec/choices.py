"""The tokens that the generator could write at each place of an ID, which soft tokens mix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqloom.llm.generation.diverse import allowed_tokens
from seqloom.llm.generation.lexicon import Lexicon, WordAutomaton
from seqloom.llm.generation.text_model import END
from seqloom.systems.idgenrec.config import TextualIDConfig
from seqloom.systems.idgenrec.ids import attempts_of
from seqloom.systems.idgenrec.item_texts import OwnWords


class IDChoices:
    """Finds the competing tokens at each place of an item's ID, by the rules of ID generation.

    An ID belongs to the first attempt of `IDMaker` that could have written it. If none could (IDs with
    additional words, or from a file), its own token is added to those of the last attempt at each place.
    """

    def __init__(self, texts: Sequence[str], lexicon: Lexicon, config: TextualIDConfig) -> None:
        self._automaton = WordAutomaton.build(lexicon)
        self._own = OwnWords.of(texts, lexicon)
        self._attempts = attempts_of(config)

    def __call__(self, items: Tensor, ids: Tensor) -> Tensor:
        """Returns the competing tokens; none at and after the end mark.

        Shapes: items [M] item numbers, ids [M, T] output numbers -> [M, T, V'] bool.
        """
        device = ids.device
        automaton = self._automaton = self._automaton.to(device)
        words = ids > END
        place = ids.clamp(min=END)[..., None]
        own = self._own.token_mask((items - 1).tolist(), device)
        left = torch.arange(len(ids), device=device)  # IDs that no attempt so far could write
        competing = torch.zeros(*ids.shape, len(automaton.start), dtype=torch.bool, device=device)
        for attempt in self._attempts:
            allowed = own[left] if attempt.own_words else None
            competing[left] = allowed_tokens(automaton, ids[left], attempt.lengths, allowed)
            written = competing[left].gather(2, place[left])[..., 0] | ~words[left]
            left = left[~written.all(1)]
            if not len(left):
                break
        else:
            competing[left] = competing[left].scatter(2, place[left], True)
        return competing & words[..., None]
