"""Parts of `benchmarks.gpu` with language models: embedding, E4SRec, beam search."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_bench import SEED, Bench, UnavailableError, in_ms, result
from benchmarks.gpu_training import count_operators
from benchmarks.result import Result

TEXTS_A_SECOND, RECALL_GOAL = 15_000, 0.99
E4SREC_GOAL_S, BEAMS_GOAL_S = 4.0, 1.0
_SMALL = {"source": "llama", "hidden_size": 32, "num_layers": 1, "feed_forward_size": 64}
_NAMER = {"source": "t5", "hidden_size": 32, "num_layers": 1, "feed_forward_size": 64}


def embedding(bench: Bench) -> list[Result]:
    """Texts of items and users by the sentence encoder, and how far bfloat16 is from float32."""
    from seqloom.text.encoders import build_encoder
    from seqloom.text.options import EncoderOptions
    from seqloom.text.prompts import item_prompts, user_prompts
    from seqloom.text.resume import encode_all

    if bench.encoder is None:
        raise UnavailableError("no --encoder was given")
    dataset, device = bench.dataset, str(bench.device)
    texts = [*item_prompts(dataset, "full").texts, *user_prompts(dataset, "titles").texts]
    ids = [str(number) for number in range(len(texts))]
    options = EncoderOptions(encoder=str(bench.encoder), device=device)
    encoder = build_encoder(options)
    encoder.encode([text for text in texts[:2048] if text])
    calls = iter(range(9))

    def embed() -> None:
        work = bench.folder / f"texts-{next(calls)}"
        encode_all(encoder, texts, ids, work, name="encoding")

    seconds = bench.times(embed, 2)
    some = [text for text in texts if text][:4096]
    exact = build_encoder(options.model_copy(update={"dtype": "float32"})).encode(some)
    half = build_encoder(options.model_copy(update={"dtype": "bfloat16"})).encode(some)
    error = float(((half - exact).norm(dim=1) / exact.norm(dim=1)).max())
    notes = {
        "embedding: texts a second": f"{len(texts) / statistics.median(seconds):,.0f}",
        "embedding: largest relative error of bfloat16": f"{error:.1e} (goal: 1e-2)",
        "embedding: recall of 10 nearest": f"{_recall(half, exact):.4f} (goal: {RECALL_GOAL})",
    }
    goal = len(texts) / TEXTS_A_SECOND
    return [result(f"Embed {len(texts):,} texts", "s", seconds, goal, **notes)]


def _recall(vectors: Tensor, exact: Tensor, k: int = 10) -> float:
    """Share of the k nearest of each row by the exact vectors that are nearest by the others too."""
    nearest = []
    for rows in (vectors, exact):
        unit = torch.nn.functional.normalize(rows, dim=1)
        nearest.append((unit @ unit.t()).fill_diagonal_(-2).topk(min(k, len(unit) - 1)).indices)
    same = (nearest[0][:, :, None] == nearest[1][:, None, :]).any(1)
    return float(same.float().mean())


def e4srec(bench: Bench) -> list[Result]:
    """An epoch of E4SRec with the whole language model, and the states of histories."""
    from seqloom.pipelines.train.train import train
    from seqloom.runs.folder import load_run

    llm = _llm(bench)
    giver = {"epochs": 1, "encoder": {"hidden_size": 64}}
    config = {
        "seed": SEED,
        "epochs": 4,
        "batch_size": 16 if bench.quick else 256,
        "patience": None,
        "llm": {"name": str(llm)},
        "ids": {"config": giver},
    }
    out = bench.folder / "e4srec"
    train(bench.dataset, "e4srec", config=config, out=out, device=str(bench.device))
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    # The first batches of a shape are not replayed.
    trained = [row["seconds"] for row in rows if row["phase"] == "train"][2:]
    system: Any = load_run(out, device=str(bench.device)).system
    with torch.no_grad():  # validation may have left the language model out
        system.text.gate.fill_(0.1)
        system.blend.fill_(1)
    scorer = system.scorer()
    histories = bench.dataset.held_out("test").histories
    users = min(len(histories), 64 if bench.quick else 4_000)
    batch = histories.select(torch.arange(users)).pad(system.max_len).to(bench.device)
    few = histories.select(torch.arange(min(len(histories), 256))).pad(system.max_len)
    few = few.to(bench.device)
    with torch.inference_mode():
        seconds = bench.times(lambda: scorer.score(batch.items, batch.lengths), 2)
    with without_graphs():
        plain = system.scorer()
    results = [
        result("E4SRec epoch, batch 256, causal", "s", trained, E4SREC_GOAL_S),
        result("E4SRec scores of 1,000 users", "s", [1000 * s / users for s in seconds], None),
    ]
    for count in (1, len(few.items)):
        title = f"E4SRec scores of {count} of the users at once"
        works = [
            partial(each.score, few.items[:count], few.lengths[:count]) for each in (scorer, plain)
        ]
        results += _with_and_without(bench, title, *works, difference=_difference)
    return results + _checkpointing(bench, system)


def _checkpointing(bench: Bench, system: Any) -> list[Result]:
    """The largest of some training steps, one by one, with and without gradient checkpointing."""
    from seqloom.systems.base import TrainingData
    from seqloom.systems.e4srec.phases import CausalPhase
    from seqloom.training.step import Stepper, on_device

    stepper = Stepper.of(CausalPhase(system.train(), TrainingData(bench.dataset)), bench.device)
    plan = stepper.phase.steps(0)
    some = (plan[number] for number in range(min(len(plan), 10)))
    batch = on_device(max(some, key=lambda each: each.inputs.items.numel()), bench.device)
    results = []
    for name, again in (("", False), (" with gradient checkpointing", True)):
        title = f"E4SRec step of {batch.inputs.items.numel():,} places{name}"
        system.reader.adapter.gradient_checkpointing = again
        taken = in_ms(bench.times(lambda: stepper(batch), 1 if bench.quick else 3))
        memory = f"{bench.peak_mib(lambda: stepper(batch)):,.0f} MiB" if bench.on_cuda else "-"
        results.append(result(title, "ms", taken, None, **{f"{title}: memory": memory}))
    return results


def _with_and_without(
    bench: Bench,
    title: str,
    work: Callable[[], Tensor],
    plain: Callable[[], Tensor],
    *,
    difference: Callable[[Tensor, Tensor], str],
) -> list[Result]:
    """The same work by recorded graphs, where there are any, and without."""
    with torch.inference_mode():
        taken, others = in_ms(repeat(bench, work)), in_ms(repeat(bench, plain))
        unlike = difference(work(), plain())
        count = count_operators(plain)
    notes = {f"{title}: operators": f"{count:,}", f"{title}: replayed or not": unlike}
    return [
        result(title, "ms", taken, None, **notes),
        result(f"{title}, without graphs", "ms", others, None),
    ]


def _difference(scores: Tensor, others: Tensor) -> str:
    return f"largest difference {float((scores - others).abs().max()):.1e}"


@contextmanager
def without_graphs() -> Iterator[None]:
    """What is built within the block records nothing."""
    from seqloom.nn.graphs import VARIABLE

    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "0"
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def repeat(bench: Bench, work: Callable[[], object]) -> list[float]:
    """Seconds of ten calls, after those that record its shapes."""
    for _ in range(3):
        work()
    return bench.times(work, 2 if bench.quick else 10)


def _spread(scores: list[Tensor]) -> str:
    """The largest difference of any of them from the first."""
    return f"{max(float((each - scores[0]).abs().max()) for each in scores):.1e}"


def decoding(bench: Bench) -> list[Result]:
    """Lists of ten by a beam search of 20 beams with the whole language model; it is not trained."""
    from seqloom.systems.base import Sizes, TrainingData
    from seqloom.systems.idgenrec.config import IDGenRecConfig
    from seqloom.systems.idgenrec.system import IDGenRec

    llm = str(_llm(bench))
    torch.manual_seed(SEED)
    config = IDGenRecConfig.build(
        {
            "generator": _NAMER,
            "ids": {"max_text_tokens": 24},
            "rounds": 1,
            "tokenizer": "catalogue" if bench.quick else llm,
            "recommender": _SMALL if bench.quick else {"source": "pretrained", "name": llm},
        }
    )
    system: Any = IDGenRec(config, Sizes(num_items=bench.dataset.num_items))
    data = TrainingData(bench.dataset)
    system.initialise(data)
    system.to(bench.device)
    plan = system.phases(data)[-1].steps(0)  # names the items
    system.eval()
    histories = bench.dataset.held_out("test").histories
    users = min(len(histories), 8 if bench.quick else 1_000)
    batch = histories.select(torch.arange(users)).pad(system.max_len).to(bench.device)
    scorer = system.scorer_of_ids(system.ids[1:])
    with without_graphs():
        plain = system.scorer_of_ids(system.ids[1:])

    def search() -> None:
        scorer.best(batch.items, batch.lengths, 10)

    title = "Beam search, 20 beams, lists of 1,000 users"
    exact = [1000 * s / users for s in bench.times(search, 1)]
    padding = {"IDGenRec: places of training prompts that are padding": _padding(system, plan)}
    results = [result(title, "s", exact, BEAMS_GOAL_S, **padding)]
    if bench.on_cuda:
        with bench.autocast():
            half = [1000 * s / users for s in bench.times(search, 1)]
        results.append(result(f"{title}, under autocast", "s", half, BEAMS_GOAL_S))
    works = [
        lambda each=each: each.best(batch.items[:1], batch.lengths[:1], 10)[0]
        for each in (scorer, plain)
    ]
    return results + _with_and_without(bench, "Beam search, one user", *works, difference=_same)


def _same(items: Tensor, others: Tensor) -> str:
    return "the same list" if torch.equal(items, others) else "other lists"


def _padding(system: Any, plan: Any) -> str:
    """Share of padding in every tenth batch of the recommender."""
    real = places = 0
    for number in range(0, len(plan), 10):
        inputs, targets = plan[number].inputs, plan[number].targets
        items = torch.cat([inputs.items[:, :1], targets], 1) if system.windows else inputs.items
        items = items.to(system.table.device)
        mask = system.builder(system.table, items, torch.zeros_like(items[:, 0])).mask
        real, places = real + int(mask.sum()), places + mask.numel()
    return f"{1 - real / places:.1%}"


def _llm(bench: Bench) -> Path:
    if bench.llm is None:
        raise UnavailableError("no --llm was given")
    return bench.llm
