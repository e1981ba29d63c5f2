"""Constrained beam search, compared with transformers' `generate` and `prefix_allowed_tokens_fn`.

Both sides see the same model, prompts and prefix tree, mask nothing, and list ten items. The library is
called at the batch size that is fastest for some of the users. Lists are compared with exact scores too.
And the scores of a few candidates of each user, as sampled ranking asks for them, beside those of every item.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.data import benchmark_dataset
from benchmarks.library_beam import LibraryBeam
from benchmarks.result import Measurement, Result
from seqloom.core.device import keep_freed_memory
from seqloom.data.store import Dataset
from seqloom.distributed.processes import ALONE
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.system import IDGenRec

TOP, BEAMS, USERS, QUICK_USERS, EXACT_USERS, REPEATS, SEED = 10, 20, 128, 32, 16, 3, 42
CANDIDATES = 101
"""The target and a hundred negatives."""
STEPS = 100
"""Training steps of a model that is made here, so that its probabilities are not flat."""
_NAMER = {"source": "t5", "hidden_size": 32, "num_layers": 1, "feed_forward_size": 64}
_MODELS: dict[str, dict[str, Any]] = {
    "T5 from scratch, 3 + 3 layers of width 128": {
        "tokenizer": "catalogue",
        "recommender": {"source": "t5"},
    },
    "SmolLM2-135M-Instruct, first 2 layers": {
        "tokenizer": "smollm2-135m-instruct",
        "recommender": {"source": "pretrained", "first_layers": 2},
        "learning_rate": 2e-4,
    },
}
_LIBRARY_BATCHES = (1, 8, 32)


def run(folder: Path, idgenrec: Path | None = None, quick: bool = False) -> list[Result]:
    """Time both, on the run `idgenrec` or on models that are made here. `quick` takes fewer users."""
    keep_freed_memory()
    users = QUICK_USERS if quick else USERS
    if idgenrec is not None:
        trained: Any = load_run(idgenrec)
        return _beside(idgenrec.name, trained.system, trained.dataset(), users)
    dataset = benchmark_dataset(folder)
    results: list[Result] = []
    for name, settings in _MODELS.items():
        system = _system(dataset, settings, 10 if quick else STEPS)
        results += _beside(name, system, dataset, users)
    return results


def _system(dataset: Dataset, settings: dict[str, Any], steps: int) -> IDGenRec:
    """A recommender after a few steps of training, over IDs by a small untrained generator."""
    torch.manual_seed(SEED)
    ids = {"max_text_tokens": 24}
    config = IDGenRecConfig.build({"generator": _NAMER, "ids": ids, "rounds": 1, **settings})
    system = IDGenRec(config, Sizes(num_items=dataset.num_items))
    data = TrainingData(dataset)
    system.initialise(data)
    phase = system.phases(data)[-1]
    plan = phase.steps(0)
    optimiser = torch.optim.AdamW(phase.module.parameters(), lr=config.learning_rate)
    phase.module.train()
    for step in range(min(steps, len(plan))):
        optimiser.zero_grad()
        ALONE.add_up(phase.loss(plan[step]))["loss"].backward()
        optimiser.step()
    return system.eval()


def _beside(name: str, system: IDGenRec, dataset: Dataset, users: int) -> list[Result]:
    held_out = dataset.held_out("test")
    rows = torch.linspace(0, len(held_out.users) - 1, users).long()
    batch: Any = held_out.histories.select(rows).pad(system.max_len).to(system.ids.device)
    scorer: Any = system.scorer_of_ids(system.ids[1:])
    library = LibraryBeam(system, TOP)
    ours, seconds, cpu = _timed(lambda: scorer.best(batch.items, batch.lengths, TOP)[0])
    sample = torch.linspace(0, users - 1, EXACT_USERS).long()
    every, every_seconds, _ = _timed(
        lambda: scorer.exact_scorer().score(batch.items[sample], batch.lengths[sample]),
        repeats=1,
        warm=False,
    )
    exact = every.topk(TOP).indices + 1
    few = batch.items[:QUICK_USERS]
    tried = {
        size: _timed(lambda: library.best(few, BEAMS, size), repeats=1)[1][0]  # noqa: B023
        for size in _LIBRARY_BATCHES
    }
    size = min(tried, key=lambda each: tried[each])
    theirs, library_seconds, library_cpu = _timed(
        lambda: library.best(batch.items, BEAMS, size), repeats=1, warm=False
    )
    notes = {
        "catalogue": f"{dataset.num_items:,} items, {users} users, {BEAMS} beams, {TOP} items a list",
        f"{name}: likelihood": system.config.likelihood,
        f"{name}: items in both lists": _common(ours, torch.tensor(theirs)),
        f"{name}: of the ten best by exact scores, in our lists and the library's": (
            f"{_common(ours[sample], exact)} and {_common(torch.tensor(theirs)[sample], exact)}"
        ),
        f"{name}: processor time per user": f"{_ms(cpu, users)} and {_ms(library_cpu, users)} ms",
    }
    search = Result(
        f"Constrained beam search, {name}",
        _a_user("seqloom", seconds, users),
        _a_user(f"generate, batches of {size}", library_seconds, users),
        notes=notes,
    )
    draw = torch.Generator().manual_seed(SEED)
    candidates = torch.randint(1, dataset.num_items + 1, (users, CANDIDATES), generator=draw)
    candidates = candidates.to(batch.items.device)
    few_scores, few_seconds, _ = _timed(
        lambda: scorer.score_candidates(batch.items, batch.lengths, candidates)
    )
    apart = (few_scores[sample] - every.gather(1, candidates[sample] - 1)).abs().max()
    few = Result(
        f"Exact scores of {CANDIDATES} candidates, {name}",
        _a_user("candidates alone", few_seconds, users),
        _a_user(f"every item, of {EXACT_USERS} users", every_seconds, EXACT_USERS),
        notes={f"{name}: largest difference of a log-likelihood": f"{float(apart):.1e}"},
    )
    return [search, few]


def _a_user(name: str, seconds: list[float], users: int) -> Measurement:
    return Measurement(name, "ms/user", [1000 * each / users for each in seconds])


def _timed(
    work: Callable[[], Any], repeats: int = REPEATS, *, warm: bool = True
) -> tuple[Any, list[float], list[float]]:
    """The result, seconds, and seconds of processor time, of each call; with `warm` one more goes before."""
    search = work() if warm else None
    seconds, cpu = [], []
    for _ in range(repeats):
        _wait()
        started, busy = time.perf_counter(), time.process_time()
        search = work()
        _wait()
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - busy)
    return search, seconds, cpu


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _ms(seconds: list[float], users: int) -> str:
    return f"{1000 * min(seconds) / users:.1f}"


def _common(first: Tensor, second: Tensor) -> str:
    """Share of the items of one list that the other holds as well. Shapes: [B, k], [B, k]."""
    same = (first[:, :, None].cpu() == second[:, None, :].cpu()).sum() / second.numel()
    return f"{float(same):.3f}"
