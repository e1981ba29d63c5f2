"""Measures what steering by a sentence obeys and what it costs, as a curve over the weight.

For each concept (a genre, a keyword) one sentence is asked for every user of a sample. A judge that the
encoder cannot see decides which items obey: a column that is left out of the texts (--hide-column), or
the words themselves, which are deleted from them (--concepts alone). Prints Markdown tables:

- obeys: share of the top 10 that the judge accepts; for "no CONCEPT" the share that holds the concept;
- NDCG@10, other: of the held-out item where the judge says that it is none of the concept (the sentence has
  nothing to do with what the user took next: the loss);
- NDCG@10, meant: where it is one (the sentence says what the user wants: the gain).

    python scripts/steering_curve.py RUN --concepts Comedy,Horror --hide-column class --sentence "a {} movie"
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqloom import load_run
from seqloom.core.random import generator
from seqloom.inference.ranker import standardise
from seqloom.runs.steering import Steering
from seqloom.text.item_text import ItemText
from seqloom.text.store import load_embeddings

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 100.0)
K = 10


def main() -> None:
    args = _arguments()
    run = load_run(args.run)
    data = run.dataset(args.dataset)
    concepts = args.concepts.split(",")
    accepts = _judge(run.items, concepts, args.hide_column)  # [concepts, N]
    steering = _blind_steering(run, data, concepts, args.hide_column)
    held_out = data.held_out(args.on)
    draw = generator(args.seed, "steering curve")
    rows = torch.randperm(len(held_out.users), generator=draw)[: args.users]
    histories, targets = held_out.histories.select(rows), held_out.targets[rows]
    ranker = run.ranker()
    with torch.inference_mode():
        scores = torch.cat(
            [ranker.score(histories.select(p)) for p in torch.arange(len(rows)).split(256)]
        )
        scores = ranker.hide(standardise(scores.float()), histories)  # [users, N]
    print(
        f"{args.run}, {args.on}, {len(rows)} users, seed {args.seed}, {len(concepts)} concepts:",
        end=" ",
    )
    print(", ".join(f"{c} ({int(a.sum())})" for c, a in zip(concepts, accepts, strict=True)))
    for form in (args.sentence, "no {}"):
        near = [steering.follow(form.format(c.lower()), 1.0).steering for c in concepts]
        print(
            f"\nsentence: {form}\n\n| weight | obeys | NDCG@10, other | NDCG@10, meant |\n|---|---|---|---|"
        )
        for weight in WEIGHTS:
            cells = _measure(scores, near, weight, accepts, targets)
            print(
                f"| {weight:g} | " + " | ".join(f"{cell:.4f}" for cell in cells) + " |", flush=True
            )


def _measure(
    scores: Tensor, near: Sequence[Tensor], weight: float, accepts: Tensor, targets: Tensor
) -> tuple[float, float, float]:
    """Returns share of accepted items, NDCG@10 of targets outside and inside the concept."""
    obeys, other, meant = [], [], []
    for steering, accepted in zip(near, accepts, strict=True):
        items = torch.cat(
            [(part + weight * steering).topk(K, 1).indices for part in scores.split(256)]
        )
        obeys.append(accepted[items].float().mean())
        hit = items == (targets - 1)[:, None]
        gain = (hit / torch.log2(torch.arange(2.0, K + 2))).sum(1)
        inside = accepted[targets - 1]
        other.append(gain[~inside])
        meant.append(gain[inside])
    means = (torch.stack(obeys), torch.cat(other), torch.cat(meant))
    return tuple(float(part.mean()) for part in means)  # type: ignore[return-value]


def _judge(items: Any, concepts: Sequence[str], column: str | None) -> Tensor:
    """Whether a column, or any text, of each item holds each concept as a word. Shapes: -> [C, N] bool."""
    names = [column] if column else [name for name in items.column_names if name != "item_id"]
    rows = [" ".join(str(row[name] or "") for name in names) for row in items.to_pylist()]
    patterns = [_pattern([concept]) for concept in concepts]
    return torch.tensor([[bool(pattern.search(text)) for text in rows] for pattern in patterns])


def _blind_steering(run: Any, data: Any, concepts: Sequence[str], column: str | None) -> Steering:
    """Steering by texts that do not show what the judge sees."""
    manifest = load_embeddings(data).manifest.model_dump(mode="json")
    items = run.items
    if column:
        items = items.drop_columns([column])
    else:
        for at, name in enumerate(items.column_names[1:], start=1):
            cells = [
                _pattern(concepts).sub("", cell or "") for cell in items.column(name).to_pylist()
            ]
            items = items.set_column(at, name, [cells])
    item_text = ItemText(manifest, items.column_names)
    return Steering(item_text, item_text.embed(items), items)


def _pattern(concepts: Sequence[str]) -> re.Pattern[str]:
    """Words that begin like one of the concepts: "brush" stands for "brushes" too."""
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, concepts))})\w*", re.IGNORECASE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--concepts", required=True, help="Genres or keywords, separated by commas."
    )
    parser.add_argument("--sentence", default="{}", help="The sentence; {} stands for the concept.")
    parser.add_argument(
        "--hide-column", help="The judge's column; without it, the words are the judge."
    )
    parser.add_argument("--dataset", type=Path, help="The run's data set, if it has moved.")
    parser.add_argument("--on", choices=["valid", "test"], default="test")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


if __name__ == "__main__":
    main()
