"""Prompts written token by token: the slow reference for `PromptBuilder`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seqloom.llm.generation.text_model import END
from seqloom.systems.idgenrec.language import Language
from seqloom.systems.idgenrec.prompts import SEPARATOR


def spell_prompt(
    language: Language, table: Tensor, items: Sequence[int], template: int
) -> list[int]:
    """Returns the recommender's tokens for a history of item numbers.

    Shapes: table [N + 1, T] output numbers.
    """
    place = None if language.kept is None else {t: i for i, t in enumerate(language.kept.tolist())}

    def translate(tokens: list[int]) -> list[int]:
        return tokens if place is None else [place[token] for token in tokens]

    def tokens_of(text: str) -> list[int]:
        return translate(language.tokenizer(text, add_special_tokens=False)["input_ids"])

    outputs = language.lexicon.output_tokens.tolist()
    before, after = language.templates.parts[template]
    prompt = tokens_of(before) if before else []
    for item in items:
        prompt += translate([outputs[n] for n in table[item].tolist() if n > END])
        prompt += tokens_of(SEPARATOR)
    return prompt + (tokens_of(f" {after}") if after else [])
