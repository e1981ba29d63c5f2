"""Parts of `benchmarks.gpu`: the exact softmax and SASRec. seqloom is imported where it is used."""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu_bench import SEED, Bench, in_ms, result
from benchmarks.result import Result

SHAPE = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "dropout": 0.5, "max_len": 50}
EPOCH_GOALS_S = {128: 0.15, 512: 0.10, 2048: 0.08}
E4SREC_BATCH = 256
TRAINING_GOAL_S, PRODUCTS_TIMES, MEMORY_GOAL_MIB = 15.0, 1.5, 1024.0


def million(bench: Bench) -> list[Result]:
    """The exact softmax of a batch over a million items, with gradients, beside its three products."""
    from seqloom.nn import fused_softmax, losses

    items, targets = (2_000, 64) if bench.quick else (1_000_000, 4096)
    weight = torch.nn.Parameter(0.02 * torch.randn(items, 64, device=bench.device))
    hidden = torch.randn(targets, 64, device=bench.device, requires_grad=True)
    truth = torch.randint(items, (targets,), device=bench.device)
    rows = losses.chunk_rows(items, bench.device)

    def step(chunk: int | None = None) -> None:
        weight.grad = hidden.grad = None
        with bench.autocast():
            losses.softmax_loss(hidden, weight, truth, chunk=chunk).backward()

    dtype = torch.bfloat16 if bench.on_cuda else torch.float32
    w, h = weight.detach().to(dtype), hidden.detach().to(dtype)

    def products() -> None:
        for part in h.split(rows):
            logits = part @ w.t()
            logits @ w
            logits.t() @ part

    alone = in_ms(bench.times(products))
    title = f"Softmax of {targets:,} targets over {items:,} items x 64, with gradients"
    fused = bench.on_cuda and fused_softmax.is_usable(bench.device)
    notes = {
        "softmax: kernels": "fused" if fused else "chunks of logits",
        "softmax: its three products alone": f"{statistics.median(alone):.3g} ms",
        **_errors(bench),
    }
    goal = PRODUCTS_TIMES * statistics.median(alone)
    results = [
        result(title, "ms", in_ms(bench.times(step)), goal, **notes),
        result(f"{title}, by chunks", "ms", in_ms(bench.times(lambda: step(rows))), goal),
    ]
    if bench.on_cuda:
        memory = bench.peak_mib(step)
        results.append(
            result("Memory of it above the parameters", "MiB", [memory], MEMORY_GOAL_MIB)
        )
    return results + (_blocks(bench, step) if fused else [])


def _errors(bench: Bench) -> dict[str, str]:
    """Errors of value and table gradient against float64, and those of torch's own cross-entropy."""
    from seqloom.nn import losses

    draw = torch.Generator().manual_seed(SEED)
    hidden = torch.randn(256, 64, generator=draw).to(bench.device)
    weight = torch.randn(5_000, 64, generator=draw).to(bench.device)
    truth = torch.randint(5_000, (256,), generator=draw).to(bench.device)

    def table_gradient(loss: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> Tensor:
        h, w = hidden.to(dtype), weight.to(dtype).requires_grad_()
        with bench.autocast() if dtype == torch.float32 else nullcontext():
            value = loss(h, w)
        (gradient,) = torch.autograd.grad(value, w)
        return gradient.double()

    def plain(h: Tensor, w: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(h @ w.t(), truth)

    exact = table_gradient(plain, torch.float64)
    shown = {}
    for name, loss in (
        ("seqloom", lambda h, w: losses.softmax_loss(h, w, truth)),
        ("plain torch", plain),
    ):
        error = (table_gradient(loss, torch.float32) - exact).norm() / exact.norm()
        shown[f"softmax: relative error of the table's gradient, {name}"] = f"{float(error):.1e}"
    return shown


def _blocks(bench: Bench, step: Callable[[], None]) -> list[Result]:
    """The same with other blocks of the kernels, to choose them by."""
    from seqloom.nn import fused_softmax

    usual, chosen = fused_softmax.blocks_for, fused_softmax.blocks_for(64)
    others = [
        replace(chosen, rows=64),
        replace(chosen, items=128, warps=8),
        replace(chosen, gradient_rows=128, warps=8),
        replace(chosen, gradient_items=64),
        replace(chosen, stages=4),
        replace(chosen, stages=2),
    ]
    results = []
    try:
        for blocks in others:
            fused_softmax.blocks_for = lambda width, blocks=blocks: blocks  # type: ignore[misc]
            name = ", ".join(str(each) for each in vars(blocks).values())
            try:
                taken = in_ms(bench.times(step, 3))
            except Exception as error:  # too much shared memory
                taken, name = [float("nan")], f"{name}: {type(error).__name__}"
            results.append(result(f"Softmax with blocks {name}", "ms", taken, None))
    finally:
        fused_softmax.blocks_for = usual
    return results


class Steps:
    """Training steps of SASRec as the loop takes them."""

    def __init__(self, bench: Bench, batch_size: int) -> None:
        from seqloom.pipelines.train.fit_run import start_system
        from seqloom.systems.base import Sizes, TrainingData
        from seqloom.systems.config import SASRecConfig
        from seqloom.systems.sequence import RankingPhase
        from seqloom.training.step import Stepper

        config = SASRecConfig.build({"encoder": SHAPE, "batch_size": batch_size})
        data = TrainingData(bench.dataset)
        sizes = Sizes(num_items=bench.dataset.num_items)
        system: Any = start_system("sasrec", config, sizes, data).to(bench.device)
        self.stepper = Stepper.of(RankingPhase(system.train(), data), bench.device)
        plan = self.stepper.phase.steps(0)
        self.batches = [plan[number] for number in range(min(len(plan), 40))]

    def all_by(self, take: Callable[[Any, int], object]) -> Callable[[], None]:
        """Returns what takes a step on every batch."""

        def work() -> None:
            for number, batch in enumerate(self.batches):
                take(batch, number)

        return work


def steps(bench: Bench) -> list[Result]:
    """Steps one by one and replayed, and where the host waits for the device."""
    from seqloom.nn.graphs import CudaGraphs
    from seqloom.training.replay import Replayer
    from seqloom.training.step import on_device

    results: list[Result] = []
    notes: list[str] = []
    for batch_size in (128,) if bench.quick else (128, 512):
        each = Steps(bench, batch_size)
        count = len(each.batches)

        def one(batch: Any, number: int, each: Steps = each) -> None:
            each.stepper(on_device(batch, bench.device))

        single = [1000 * s / count for s in bench.times(each.all_by(one), 3)]
        waits = _waits(bench, each.all_by(one))
        title = f"SASRec step, batch {batch_size}"
        calls = f"{count_operators(partial(one, each.batches[0], 0)):,}"
        counts = {**_shapes(bench, batch_size), **_shapes(bench, E4SREC_BATCH)}
        counts |= {"waits": waits, f"{title}: operators": calls}
        results.append(result(f"{title}, one by one", "ms", single, None, **counts))
        if not bench.on_cuda:
            continue
        replayer = Replayer(each.stepper, CudaGraphs(bench.device), notes.append)
        work = each.all_by(replayer)
        for _ in range(3):  # first sight, rehearsal, recording
            work()
        replayed = [1000 * s / count for s in bench.times(work, 3)]
        shown: dict[str, Any] = {
            f"{title}: of a replay, the host's part": f"{_host_ms(bench, work) / count:.3f} ms",
            f"{title}: recorded shapes": replayer.shapes,
            f"{title}: not recorded because": notes or "-",
            f"{title}: largest difference of weights, replayed or not": _difference(
                bench, batch_size
            ),
        }
        results.append(result(f"{title}, replayed", "ms", replayed, None, **shown))
    return results


def _shapes(bench: Bench, batch_size: int) -> dict[str, str]:
    """What graphs of several steps and packed rows could save, from the batches of three epochs."""
    from seqloom.data.batches import plan_epoch, training_rows

    rows = training_rows(bench.dataset.train, int(SHAPE["max_len"]), "windows")
    steps = same = pairs = real = places = 0
    for epoch in range(3):
        plan = plan_epoch(rows, batch_size, SEED, "train", epoch)
        paired, last = False, None
        for number in range(len(plan)):
            batch = plan[number].padded()
            shape = tuple(tensor.shape for tensor in batch.tensors())
            steps, same = steps + 1, same + (shape == last)
            paired = shape == last and not paired
            pairs += paired
            last = shape
            real += int(batch.inputs.lengths.sum())
            places += batch.inputs.items.numel()
    name = f"batch {batch_size}"
    return {
        f"{name}: steps after one of the same shape": f"{same / steps:.1%}",
        f"{name}: graphs saved by pairs of such steps": f"{pairs / steps:.1%}",
        f"{name}: places that are padding": f"{1 - real / places:.1%}",
    }


class _Operators(TorchDispatchMode):
    """Counts calls of operators that compute: no views, no allocations."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        self.count += not (function.is_view or name.startswith(("empty", "detach", "_unsafe_view")))
        return function(*args, **(kwargs or {}))


def count_operators(work: Callable[[], object]) -> int:
    """Counts the operators that a call computes; each is at least one kernel on a GPU."""
    with _Operators() as operators:
        work()
    return operators.count


def _host_ms(bench: Bench, work: Callable[[], None]) -> float:
    """How long the host takes to start the work, which the device does meanwhile."""
    taken = []
    for _ in range(3):
        bench.wait()
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def _difference(bench: Bench, batch_size: int) -> str:
    """Between weights after the same steps, recorded and one by one: 0 if they have the same bits."""
    from seqloom.nn.graphs import MOST, CudaGraphs
    from seqloom.training.replay import Replayer

    trained = []
    for most in (MOST, 0):
        each = Steps(bench, batch_size)
        work = each.all_by(
            Replayer(each.stepper, CudaGraphs(bench.device), lambda _: None, most=most)
        )
        for _ in range(5):
            work()
        trained.append(dict(each.stepper.phase.module.named_parameters()))
    one, other = trained
    return f"{max(float((one[name] - other[name]).detach().abs().max()) for name in one):.1e}"


def _waits(bench: Bench, work: Callable[[], None]) -> str:
    """Where the host waits for the device; there should be none."""
    if not bench.on_cuda:
        return "not measured: no CUDA device"
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = {f"{Path(each.filename).name}:{each.lineno}" for each in seen}
    return ", ".join(sorted(places)) or "none"


def epochs(bench: Bench) -> list[Result]:
    """Seconds of an epoch of SASRec by `train` itself, the first three left out."""
    from seqloom.pipelines.train.train import train

    results = []
    for batch_size, goal in EPOCH_GOALS_S.items():
        config = {"seed": SEED, "patience": None, "encoder": SHAPE, "batch_size": batch_size}
        config["epochs"] = 4 if bench.quick else 10
        out = bench.folder / f"run-{batch_size}"
        summary = train(bench.dataset, "sasrec", config=config, out=out, device=str(bench.device))
        rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        validation = statistics.median(row["valid_seconds"] for row in rows)
        title = f"SASRec epoch, batch {batch_size}"
        notes = {
            f"{title}: first epochs": [round(s, 2) for s in summary.seconds_per_epoch[:3]],
            f"{title}: validation": f"{validation:.2f} s",
            f"{title}: validation NDCG@10": f"{summary.valid['ndcg@10']:.4f}",
        }
        results.append(result(title, "s", summary.seconds_per_epoch[3:], goal, **notes))
    return results


def training(bench: Bench) -> list[Result]:
    """`train` of SASRec with its defaults, from start to best weights."""
    from seqloom.pipelines.train.train import train

    started = time.perf_counter()
    config = {"seed": SEED, **({"epochs": 2} if bench.quick else {})}
    out = bench.folder / "defaults"
    summary = train(bench.dataset, "sasrec", config=config, out=out, device=str(bench.device))
    seconds = time.perf_counter() - started
    notes = {
        "train: epochs": summary.epochs,
        "train: validation NDCG@10": f"{summary.valid['ndcg@10']:.4f}",
    }
    title = "train sasrec, defaults, start to best weights"
    return [result(title, "s", [seconds], TRAINING_GOAL_S, **notes)]
