"""Scoring by E4SRec, compared with the full prompt for one user at a time (the authors' way)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.data import benchmark_dataset
from benchmarks.plain import as_library
from benchmarks.result import Measurement, Result
from seqloom.core.device import keep_freed_memory
from seqloom.data.sequences import Sequences
from seqloom.llm.plugins.alpaca import RESPONSE, prompt_before_input
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.system import E4SRec

LAYERS, WIDTH, SEED = 4, 64, 42
USERS, LOOP_USERS, REPEATS = 512, 16, 3


def run(folder: Path) -> list[Result]:
    """Untrained systems: the cost does not depend on what was learnt."""
    keep_freed_memory()
    dataset = benchmark_dataset(folder)
    histories = dataset.held_out("test").histories
    histories = histories.select(torch.linspace(0, len(histories) - 1, USERS).long()).tail(50)
    notes = {
        "language model": f"SmolLM2-135M-Instruct, first {LAYERS} layers",
        "catalogue": f"{dataset.num_items:,} items",
        "histories": f"{USERS} users, {float(histories.lengths.float().mean()):.1f} items on average",
    }
    results = []
    for mode in ("causal", "prompt"):
        torch.manual_seed(SEED)
        keys = {"mode": mode, "llm": {"num_layers": LAYERS}, "candidates": "ids"}
        config = E4SRecConfig.build(keys)
        system = E4SRec(config, Sizes(num_items=dataset.num_items, id_size=WIDTH))
        ids = torch.randn(dataset.num_items, WIDTH)
        system.initialise(TrainingData(dataset, ids=ids))
        system.eval()
        ours, loop = _ours(system, histories), _loop(system, histories)
        notes = {**notes, "largest difference of scores": f"{_difference(system, histories):.1e}"}
        results.append(Result(f"E4SRec, mode {mode}: score the catalogue", ours, loop, notes=notes))
    return results


def _ours(system: E4SRec, histories: Sequences) -> Measurement:
    """Includes reading the instruction in each repeat; a service reads it one time."""
    batch = histories.pad()

    def score() -> Tensor:
        with torch.inference_mode():
            return system.scorer().score(batch.items, batch.lengths)

    seconds = _seconds(score)
    return Measurement("seqloom", "ms/user", [1000 * s / len(histories) for s in seconds])


def _loop(system: E4SRec, histories: Sequences) -> Measurement:
    by_length = histories.lengths.argsort(stable=True)  # a sample of all lengths
    middle = (torch.arange(LOOP_USERS) + 0.5) / LOOP_USERS * len(histories)
    lists = _lists(histories.select(by_length[middle.long()]))

    def score() -> list[Tensor]:
        with as_library(system.base.backbone):
            return [full_prompt(system, items) for items in lists]

    return Measurement(
        f"the full prompt, one user at a time ({LOOP_USERS} users)",
        "ms/user",
        [1000 * s / len(lists) for s in _seconds(score)],
    )


def _seconds(work: Callable[[], object]) -> list[float]:
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def _difference(system: E4SRec, histories: Sequences) -> float:
    """Between both ways, so that they are known to do the same."""
    few = torch.arange(4)
    batch = histories.pad()
    with torch.inference_mode():
        ours = system.scorer().score(batch.items, batch.lengths)[few]
        theirs = torch.stack(
            [full_prompt(system, items) for items in _lists(histories.select(few))]
        )
    return float((ours - theirs).abs().max() / theirs.abs().max())


def _lists(histories: Sequences) -> list[list[int]]:
    bounds = zip(histories.starts.tolist(), histories.ends.tolist(), strict=True)
    return [histories.items[start:end].tolist() for start, end in bounds]


def full_prompt(system: E4SRec, items: list[int]) -> Tensor:
    """Scores of one user: the whole prompt in one pass, gradients on, as the authors' code does.

    Shapes: L items -> [N].
    """
    base, reader = system.base, system.reader
    parts = [
        base.embed(
            base.tokenizer(prompt_before_input(system.config.prompt.instruction))["input_ids"]
        ),
        reader.projection(system.ids[torch.tensor(items) - 1]),
    ]
    if reader.respond:
        parts.append(base.embed(base.tokenizer(RESPONSE, add_special_tokens=False)["input_ids"]))
    states = reader.adapter.run(torch.cat(parts)[None], use_cache=False).last_hidden_state
    assert system.head is not None
    return states[0, -1].float() @ system.head.t()
