"""Reads IDs from a file that `seqloom ids` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from seqloom.core.errors import ArtefactError
from seqloom.llm.generation.lexicon import Lexicon
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import END


def read_ids(file: Path, item_ids: Sequence[str], lexicon: Lexicon, longest: int) -> Tensor:
    """Reads the IDs of `item_ids`. The prefix tree checks that they are unique.

    Raises:
        ArtefactError: the file is missing or damaged, it lacks an item, or an ID is empty, too long or
            has a word outside the lexicon.

    Shapes: -> [N, longest + 1] output numbers.
    """
    try:
        table = pq.read_table(file, columns=["item_id", "id"])
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtefactError(
            f"{file} cannot be read as IDs ({error}); write it with `seqloom ids`"
        ) from None
    names = dict(zip(*(table.column(c).to_pylist() for c in ("item_id", "id")), strict=True))
    rows = torch.full((len(item_ids), longest + 1), PAD)
    for row, item in enumerate(item_ids):
        if item not in names:
            raise ArtefactError(f"{file} has no ID for item {item!r}; make it for this data set")
        numbers = lexicon.numbers(names[item] or "")
        if not numbers or len(numbers) > longest:
            raise ArtefactError(
                f"the ID {names[item]!r} of item {item!r} in {file} is empty, longer than ids.longest "
                f"({longest} tokens), or holds a word that the tokenizer of this run cannot write; make "
                "the file with the same tokenizer and ids.* keys"
            )
        rows[row, : len(numbers) + 1] = torch.tensor([*numbers, END])
    return rows
