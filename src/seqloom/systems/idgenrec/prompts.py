"""Builds the recommender's prompts from histories, as tensor operations on a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import END
from seqloom.systems.idgenrec.templates import Templates

SEPARATOR = " ;"


@dataclass(frozen=True)
class Prompts:
    """Prompts of a batch, padded on the right."""

    tokens: Tensor
    """[B, P] int64 tokens of the recommender; 0 where padded."""
    mask: Tensor
    """[B, P] bool."""
    places: Tensor
    """[B, P] int64: h * T + t at token t of the ID of history item h, else -1."""
    following: Tensor
    """[B, P] int64: the output number that follows, if it belongs to the ID of an item after the first;
    else PAD. After the last token of an ID it is the end mark, as in a recommendation."""


class PromptBuilder(nn.Module):
    """Joins templates and IDs. A separator follows the ID of each item."""

    before: Tensor
    after: Tensor
    separator: Tensor
    output_tokens: Tensor

    def __init__(self, templates: Templates, tokenizer: Any) -> None:
        super().__init__()
        self.templates = templates
        self._set("before", _rows([words for words, _ in templates.parts], tokenizer))
        self._set("after", _rows([_spaced(words) for _, words in templates.parts], tokenizer))
        self._set("separator", _rows([SEPARATOR], tokenizer)[0])
        self._set("output_tokens", torch.zeros(0, dtype=torch.int64))

    def _set(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    @property
    def used_tokens(self) -> list[int]:
        """Tokens of the templates and the separator, ascending."""
        every = torch.cat([self.before.flatten(), self.after.flatten(), self.separator])
        return sorted(set(every.tolist()) - {PAD})

    def translate(self, kept: Tensor) -> None:
        """Renumbers tokens for a pruned model, whose token i is token kept[i] of the tokenizer."""
        place = {token: i for i, token in enumerate(kept.tolist())} | {PAD: PAD}
        for name in ("before", "after", "separator"):
            old = getattr(self, name)
            new = torch.tensor([place[t] for t in old.flatten().tolist()], dtype=torch.int64)
            self._set(name, new.view_as(old))

    def set_output_tokens(self, output_tokens: Tensor) -> None:
        """Sets the recommender's token of each output number. Shapes: [V']."""
        self._set("output_tokens", output_tokens)

    def forward(self, ids: Tensor, items: Tensor, which: Tensor) -> Prompts:
        """Builds the prompts.

        Shapes: ids [N + 1, T] output numbers (END and PAD after the words; row 0 PAD), items [B, L]
        item numbers, 0 on the right where padded, which [B] template numbers.
        """
        # The tokens of each item's ID, then the separator.
        numbers = ids[items]  # [B, L, T]
        before, after = self.before[which], self.after[which]
        words = numbers > END
        batch, length, width = numbers.shape
        separator = self.separator.expand(batch, length, -1)
        real = (items > 0)[..., None].expand_as(separator)
        tokens = torch.where(words, self.output_tokens[numbers.clamp(min=0)], PAD)
        tokens = torch.cat([tokens, torch.where(real, separator, PAD)], 2).flatten(1)
        places = torch.arange(length * width, device=items.device).view(1, length, width)
        places = _widen(places.expand(batch, -1, -1), separator.shape[2], -1).flatten(1)
        following = _following(numbers, separator.shape[2]).flatten(1)
        # Template, items, template, with gaps of PAD that `_compact` removes.
        whole = torch.cat([before, tokens, after], 1)
        left, right = before.shape[1], after.shape[1]
        return _compact(
            whole,
            torch.nn.functional.pad(places, (left, right), value=-1),
            torch.nn.functional.pad(following, (left, right), value=PAD),
        )


def _following(numbers: Tensor, separator: int) -> Tensor:
    """Returns the target after each place of an item's block (its ID, then the separator).

    Shapes: [B, L, T] -> [B, L, T + separator].
    """
    after_word = torch.nn.functional.pad(numbers[:, :, 1:], (0, 1), value=PAD)
    after_word = after_word.clone()
    after_word[:, :1] = PAD  # the first item is not predicted
    next_first = torch.nn.functional.pad(numbers[:, 1:, 0], (0, 1), value=PAD)  # [B, L]
    gap = torch.full((*numbers.shape[:2], separator - 1), PAD, device=numbers.device)
    return torch.cat([after_word, gap, next_first[..., None]], 2)


def _compact(tokens: Tensor, places: Tensor, following: Tensor) -> Prompts:
    """Moves real tokens to the left of each row."""
    real = tokens != PAD
    width = max(1, int(real.sum(1).max()))
    order = (~real).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    mask = real.gather(1, order)
    return Prompts(
        tokens.gather(1, order).masked_fill(~mask, 0),
        mask,
        places.gather(1, order).masked_fill(~mask, -1),
        following.gather(1, order).masked_fill(~mask, PAD),
    )


def _widen(values: Tensor, by: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, by), value=fill)


def _spaced(words: str) -> str:
    return f" {words}" if words else ""


def _rows(texts: list[str], tokenizer: Any) -> Tensor:
    """Returns the tokens of each text, padded with PAD. Shapes: -> [texts, longest]."""
    rows = [tokenizer(t, add_special_tokens=False)["input_ids"] if t else [] for t in texts]
    width = max(map(len, rows))
    return (
        torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
        .long()
        .view(len(rows), width)
    )
