"""Measures whether explanations in words are faithful.

- supported: share of a model's sentences that the evidence supports (the others are never shown);
- deletion: the rank of the recommended item, and its score, after the items that the explanation names are
  taken out of the history, against as many others taken out at random.

    python scripts/explanations.py RUN [--model MODEL] [--users 100] [--dataset DATASET]
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

import torch

from seqloom.core.random import derive_seed, generator
from seqloom.llm.explaining.explainer import Explainer
from seqloom.llm.request_options import RequestOptions
from seqloom.serving.engine.explaining import explain
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import Explain
from seqloom.serving.engine.wording import evidence_of


@torch.inference_mode()
def main() -> None:
    args = _arguments()
    model = ServedModel("run", args.run)
    explainer = Explainer(RequestOptions(model=args.model, time_s=600))
    histories = _histories(model, args)
    draw = random.Random(derive_seed(args.seed, "deletion"))
    written = supported = by_model = 0
    ranks: dict[str, list[float]] = {"named": [], "random": []}
    drops: dict[str, list[float]] = {"named": [], "random": []}
    for history in histories:
        explanation = explain(model, model.snapshot, Explain(item_id=None), history)
        evidence = evidence_of(
            explanation, lambda served, item: served.run.titles[served.run.item_numbers[item] - 1]
        )
        if not evidence.carriers:
            continue
        words = explainer.explain(evidence)
        written, supported = written + words.written, supported + words.supported
        by_model += any(each.source == "model" for each in words.sentences)
        named = [each.item_id for each in explanation.history[: len(evidence.carriers)]]
        others = [item for item in dict.fromkeys(history) if item not in named]
        if len(others) <= len(named):
            continue
        for kind, removed in (("named", named), ("random", draw.sample(others, len(named)))):
            rest = [item for item in history if item not in removed]
            rank, score = _rank(model, rest, explanation.item_id)
            ranks[kind].append(rank)
            drops[kind].append(explanation.score - score)
    print(f"{args.run}: {len(histories)} users, seed {args.seed}, model {args.model}")
    if written:
        print(
            f"sentences written {written}, supported {supported} ({supported / written:.3f}); ",
            end="",
        )
        print(f"explanations with a sentence of the model {by_model}")
    for kind in ranks:
        print(
            f"{kind} items removed ({len(ranks[kind])} users): "
            f"median rank {statistics.median(ranks[kind]):.0f}, "
            f"still first {statistics.fmean(rank == 1 for rank in ranks[kind]):.3f}, "
            f"mean drop of the score {statistics.fmean(drops[kind]):.3f}"
        )


def _rank(model: ServedModel, history: list[str], item: str) -> tuple[int, float]:
    """Rank among the items outside the history, and score, after a shorter history."""
    numbers = [model.snapshot.number(each) for each in history]
    scores = model.score(model.snapshot, [numbers])[0]
    at = model.snapshot.number(item) - 1
    score = float(scores[at])
    scores[torch.tensor(numbers) - 1] = -torch.inf
    return 1 + int((scores > score).sum()), score


def _histories(model: ServedModel, args: argparse.Namespace) -> list[list[str]]:
    held_out = model.run.dataset(args.dataset).held_out("test")
    draw = generator(args.seed, "explanations")
    rows = torch.randperm(len(held_out.users), generator=draw)[: args.users]
    chosen = held_out.histories.select(rows)
    ids = model.run.item_ids
    split = [chosen.select(torch.tensor([row])).flat()[1].tolist() for row in range(len(rows))]
    return [[ids[number - 1] for number in numbers[-50:]] for numbers in split if numbers]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", help="openai:MODEL or a local one; templates without it.")
    parser.add_argument("--dataset", type=Path, help="The run's data set, if it has moved.")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


if __name__ == "__main__":
    main()
