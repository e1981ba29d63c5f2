"""What the generator could have written at each place of an ID: what soft tokens are mixtures of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqloom.llm.generation.diverse import allowed_tokens
from seqloom.llm.generation.lexicon import Lexicon, WordAutomaton
from seqloom.llm.generation.text_model import END
from seqloom.systems.idgenrec.config import IDConfig
from seqloom.systems.idgenrec.ids import attempts_of
from seqloom.systems.idgenrec.item_texts import OwnWords


class IDChoices:
    """The tokens that compete at each place of an item's ID, by the rules by which IDs are generated.

    An ID belongs to the first attempt of `IDMaker` that could have written it. One that none could have
    written (told apart by further words, or read from a file) has at each place its own token among those
    of the last attempt.
    """

    def __init__(self, texts: Sequence[str], lexicon: Lexicon, config: IDConfig) -> None:
        self._automaton = WordAutomaton.build(lexicon)
        self._own = OwnWords.of(texts, lexicon)
        self._attempts = attempts_of(config)

    def __call__(self, items: Tensor, ids: Tensor) -> Tensor:
        """The tokens that compete; none at and after the end mark.

        Shapes: items [M] item numbers, ids [M, T] output numbers -> [M, T, V'] bool.
        """
        device = ids.device
        automaton = self._automaton = self._automaton.to(device)
        words = ids > END
        place = ids.clamp(min=END)[..., None]
        own = self._own.wanted((items - 1).tolist(), device)
        left = torch.arange(len(ids), device=device)
        found = torch.zeros(*ids.shape, len(automaton.start), dtype=torch.bool, device=device)
        for attempt in self._attempts:
            wanted = own[left] if attempt.own_words else None
            found[left] = allowed_tokens(automaton, ids[left], attempt.lengths, wanted)
            written = found[left].gather(2, place[left])[..., 0] | ~words[left]
            left = left[~written.all(1)]
            if not len(left):
                break
        else:
            found[left] = found[left].scatter(2, place[left], True)
        return found & words[..., None]
