"""Write the IDs that the paper of IDGenRec compares with: numbers, or titles.

python scripts/baseline_ids.py DATASET KIND FILE [MOST_TOKENS]. KIND is `titles` (the first words of a title,
then further ones where another item has them), or `numbers`: a number drawn for each item, whose digits
are ten words of the catalogue, which are the same to a recommender from scratch. Train with `--config
configs/idgenrec/small.yaml --set ids.file=FILE --set generation.tagging_epochs=0` and an `ids.longest` of at
least MOST_TOKENS (12).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from seqloom.core.config import read_config_file
from seqloom.core.random import generator
from seqloom.data.store import Dataset
from seqloom.llm.generation.lexicon import Lexicon, split_words
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.further_words import FurtherWords, Row
from seqloom.systems.idgenrec.item_texts import read_texts
from seqloom.systems.idgenrec.language import build_language

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "idgenrec" / "small.yaml"


def main() -> None:
    """Read the catalogue and write an ID for each item."""
    folder, kind, file = sys.argv[1:4]
    most = int(sys.argv[4]) if len(sys.argv) > 4 else 12
    data = Dataset.load(folder)
    texts = read_texts(data.items, "title" if kind == "titles" else "values")
    config = IDGenRecConfig.build(read_config_file(CONFIG))
    lexicon = build_language(config, read_texts(data.items, config.ids.text)).lexicon
    rows = {"titles": titles, "numbers": numbers}[kind](lexicon, texts, data.item_ids, most)
    ids = [lexicon.text(row) for row in rows]
    pq.write_table(pa.table({"item_id": data.item_ids, "id": ids}), file)
    print(f"{len(set(ids))} IDs of {sum(map(len, rows)) / len(rows):.1f} tokens, such as {ids[:3]}")


def titles(lexicon: Lexicon, texts: list[str], item_ids: list[str], most: int) -> list[Row]:
    """Names items by the first words of their titles that the lexicon has."""
    used: set[Row] = set()
    further = FurtherWords(lexicon, most, used)
    rows: dict[int, Row] = {}
    for item in sorted(range(len(texts)), key=lambda i: (texts[i], item_ids[i])):
        pieces = [tuple(lexicon.numbers(word) or ()) for word in split_words(texts[item])]
        row = further.shorten(sum(pieces, ()), most)
        rows[item] = row if row and row not in used else further.extend(row, texts[item])
        used.add(rows[item])
    return [rows[item] for item in range(len(texts))]


def numbers(lexicon: Lexicon, texts: list[str], item_ids: list[str], most: int) -> list[Row]:
    """Names items by numbers, drawn without regard to their texts; ten short words are the digits."""
    digits = sorted(piece for piece in lexicon.pieces if len(piece) == 1)[:10]
    places = len(str(len(texts) - 1))
    order = torch.randperm(len(texts), generator=generator(42, "numbers")).tolist()
    drawn = dict(zip(sorted(item_ids), order, strict=True))
    return [
        sum((digits[int(digit)] for digit in f"{drawn[item]:0{places}d}"), ()) for item in item_ids
    ]


if __name__ == "__main__":
    main()
