"""Makes a unique textual ID for every item."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.batching import padded_batches
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import NamingStatistics
from seqloom.llm.generation.diverse import Lengths, generate_words
from seqloom.llm.generation.lexicon import Lexicon, WordAutomaton
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import END, TextModel
from seqloom.systems.idgenrec.config import TextualIDConfig
from seqloom.systems.idgenrec.further_words import FurtherWords, Row
from seqloom.systems.idgenrec.item_texts import ItemPrompts, OwnWords

_OUTPUTS_AT_ONCE = 1 << 25
_CPU_TOKENS_AT_ONCE = 1024
"""Larger batches are not faster on a CPU, and show too little progress."""
_REHEARSED = 512
"""Number of items that are named to time the naming of all."""


@dataclass(frozen=True)
class Attempt:
    """Constraints of the generator in one stage of the search for unused IDs."""

    lengths: Lengths
    own_words: bool
    """Whether it may write only the item's own words, if these allow an ID."""


def attempts_of(config: TextualIDConfig) -> list[Attempt]:
    """Returns the stages in order: short IDs of the item's own words, then longer IDs of any words."""
    attempts = []
    for stage in range(1 + (config.longest - config.max_tokens) // config.growth):
        most = min(config.longest, config.max_tokens + stage * config.growth)
        least = min(most, config.min_tokens + stage * config.growth)
        attempts.append(Attempt(Lengths(least, most), config.own_words and stage == 0))
    return attempts


class IDMaker:
    """Names items with a generator. Names depend on the items' texts and ids, not on their order.

    Source: IDGenRec (arXiv 2403.19021), section 3.1.
    Differs: greedy for all items first and diverse groups only for those whose ID is taken; items are
        processed in the order of their texts (then ids), not in that of the file; IDs consist of whole
        words of a lexicon, by default the item's own; an ID has 2 to 8 tokens at first and 16 at most, and
        longer attempts have 4 more, where the paper has 1 to 11, no limit, and 10 more (`ids.*`); when ten
        penalties at the first lengths and at longer ones give no unused ID, further words are appended to
        the greedy one, so that the time is bounded.
    """

    def __init__(
        self,
        generator: TextModel,
        lexicon: Lexicon,
        config: TextualIDConfig,
        *,
        taken: Sequence[Row] = (),
        progress: Progress = SILENT,
    ) -> None:
        """`taken` IDs (without end mark) are not given again."""
        self._generator = generator.eval()
        self._lexicon = lexicon
        self._config = config
        self._device = generator.output_tokens.device
        most = _CPU_TOKENS_AT_ONCE if self._device.type == "cpu" else config.tokens_at_once
        self._tokens_at_once = min(most, config.tokens_at_once)
        self._automaton = WordAutomaton.build(lexicon).to(self._device)
        self._taken: set[Row] = set(taken)
        self._further = FurtherWords(lexicon, config.longest, self._taken)
        self._progress = progress

    def make(
        self, texts: Sequence[str], item_ids: Sequence[str], prompts: ItemPrompts
    ) -> tuple[Tensor, NamingStatistics]:
        """Makes an ID for each item.

        Raises:
            ConfigError: the lexicon has too few words to name so many items.

        Shapes: -> [N, longest + 1] output numbers: words, the end mark, then PAD.
        """
        own = OwnWords.of(texts, self._lexicon) if self._config.own_words else None
        order = sorted(range(len(texts)), key=lambda i: (texts[i], item_ids[i]))
        named: dict[int, Row] = {}
        attempts = attempts_of(self._config)
        # First the most likely ID of every item.
        first = self._generate(order, prompts, own, attempts[0].lengths, 1, 0.0, "IDs")
        left = self._accept(order, first, named)
        greedy = len(named)
        # Then diverse candidates for items whose ID is taken, with a rising penalty, then longer IDs.
        for attempt in attempts:
            narrow = own if attempt.own_words else None
            for penalty in range(1, self._config.max_penalty + 1):
                if not left:
                    break
                groups = self._config.groups
                what = f"diverse IDs, penalty {penalty}"
                candidates = self._generate(
                    left, prompts, narrow, attempt.lengths, groups, float(penalty), what
                )
                left = self._accept(left, candidates, named)
        diverse = len(named) - greedy
        # Finally the first ID with further words, which always ends.
        for item in left:
            named[item] = self._further.extend(first[item][0], texts[item])
        table = id_table([named[item] for item in range(len(texts))], self._config.longest)
        return table, NamingStatistics(greedy, diverse, len(left))

    def rehearse(self, texts: Sequence[str], prompts: ItemPrompts) -> tuple[Tensor, float]:
        """Makes cheap IDs like those of `make`, and estimates the seconds of naming all items greedily.

        The generator names a sample of items; all items get words of their own texts in IDs of the same
        mean length.

        Shapes: -> [N, longest + 1] as `make`.
        """
        own = OwnWords.of(texts, self._lexicon)
        by_length = sorted(range(len(texts)), key=lambda item: len(prompts.rows[item]))
        sample = by_length[:: -(-len(texts) // _REHEARSED)]
        narrow = own if self._config.own_words else None
        lengths = attempts_of(self._config)[0].lengths
        started = time.perf_counter()
        named = self._generate(sample, prompts, narrow, lengths, 1, 0.0, "some IDs")
        seconds = (time.perf_counter() - started) * len(texts) / len(sample)
        tokens = sum(len(rows[0]) for rows in named.values())
        most = max(1, round(tokens / len(sample)))
        rows = []
        for text, tags in zip(texts, words_only(own.tags(most)), strict=True):
            row = self._further.shorten(tags, most)
            if not row or row in self._taken:
                row = self._further.extend(row, text)
            self._taken.add(row)
            rows.append(row)
        return id_table(rows, self._config.longest), seconds

    def _accept(
        self, items: Sequence[int], candidates: dict[int, list[Row]], named: dict[int, Row]
    ) -> list[int]:
        """Gives each item its first unused candidate; returns the items that have none."""
        left = []
        for item in items:
            free = next((row for row in candidates[item] if row and row not in self._taken), None)
            if free is None:
                left.append(item)
            else:
                self._taken.add(free)
                named[item] = free
        return left

    def _generate(
        self,
        items: Sequence[int],
        prompts: ItemPrompts,
        own: OwnWords | None,
        lengths: Lengths,
        groups: int,
        penalty: float,
        what: str,
    ) -> dict[int, list[Row]]:
        """Generates candidates for each item, in order of the groups."""
        # Batches depend on lengths and the canonical order alone, and so does rounding.
        batches = padded_batches(
            [len(prompts.rows[item]) for item in items],
            rows=max(1, _OUTPUTS_AT_ONCE // (groups * self._generator.num_outputs)),
            cells=self._tokens_at_once,
        )
        candidates: dict[int, list[Row]] = {}
        with torch.inference_mode(), self._progress.task(what, len(items), "items") as task:
            for rows_of in batches:
                batch = [items[row] for row in rows_of]
                texts = generate_words(
                    self._generator.start(*prompts.batch(batch, self._device)),
                    self._automaton,
                    lengths,
                    groups=groups,
                    penalty=penalty,
                    preferred_tokens=None if own is None else own.token_mask(batch, self._device),
                )
                for item, rows in zip(batch, texts.tolist(), strict=True):
                    candidates[item] = [tuple(n for n in row if n > END) for row in rows]
                task.advance(len(batch))
        return candidates


def id_table(rows: Sequence[Row], longest: int) -> Tensor:
    """Pads IDs to a table. Shapes: -> [N, longest + 1] output numbers: words, the end mark, then PAD."""
    table = torch.full((len(rows), longest + 1), PAD)
    for item, row in enumerate(rows):
        table[item, : len(row) + 1] = torch.tensor([*row, END])
    return table


def words_only(table: Tensor) -> list[Row]:
    """Returns the IDs of a table without end mark and padding. Shapes: [N, T]."""
    return [tuple(n for n in row if n > END) for row in table.tolist()]
