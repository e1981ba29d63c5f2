"""What a GPU does, beside goals for an H200, in at most eight minutes.

    PYTHONPATH=src python -m benchmarks.gpu --dataset FOLDER --encoder MINILM --llm SMOLLM2

FOLDER is a prepared data set (`seqloom prepare`), the models are local folders or a GGUF file. The machine
needs neither polars nor an installed seqloom: torch, numpy, pyarrow, pydantic, PyYAML and safetensors do,
the parts with models need transformers and the like, and the first part torch alone. Each part prints its
results at once; one that cannot run or fails says why, and the others go on. The results go to `--out`,
and as a table to the same name with `.md`; `python -m benchmarks` adds `work/bench/gpu.json` to its page.

`--device cpu --quick` runs every line at sizes that take seconds, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_bench import Bench, UnavailableError
from benchmarks.gpu_models import decoding, e4srec, embedding
from benchmarks.gpu_training import epochs, million, steps, training
from benchmarks.report import section
from benchmarks.result import Part, Result

PARTS: dict[str, Callable[[Bench], list[Result]]] = {
    "million": million,
    "steps": steps,
    "epochs": epochs,
    "training": training,
    "embedding": embedding,
    "e4srec": e4srec,
    "decoding": decoding,
}
_FEWEST_S = 20
"""Seconds without which no part begins."""


def main() -> None:
    """Measures all parts, or those that are named."""
    options = _options()
    device = torch.device(options.device)
    until = time.monotonic() + options.seconds
    results: list[Result] = []
    missing: dict[str, str] = {}
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            device,
            Path(folder),
            quick=options.quick,
            data=options.dataset,
            encoder=options.encoder,
            llm=options.llm,
        )
        for name in options.parts or PARTS:
            started = time.monotonic()
            try:
                with _limit(until - started):
                    made = PARTS[name](bench)
            except (UnavailableError, ImportError) as error:
                missing[name] = f"not measured: {error}"
                made = []
            except Exception as error:
                failed, made = True, []
                missing[name] = f"failed: {type(error).__name__}: {error}"
            results += made
            _print(name, made, missing.get(name), time.monotonic() - started)
            _write(options.out, describe(device), results, missing, quick=options.quick)
    sys.exit(int(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: {', '.join(PARTS)}")
    parser.add_argument(
        "--dataset", type=Path, help="a prepared data set; a small one is made without"
    )
    parser.add_argument("--encoder", type=Path, help="folder of a sentence encoder (MiniLM)")
    parser.add_argument("--llm", type=Path, help="a causal language model (SmolLM2)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=480.0, help="limit for all parts together")
    parser.add_argument("--quick", action="store_true", help="sizes that take seconds")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part named {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return options


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raises within the block when the time is over, or before it if little is left."""
    if seconds < _FEWEST_S:
        raise UnavailableError(f"{max(0, seconds):.0f} s were left")

    def over(number: int, frame: Any) -> None:
        raise TimeoutError("the time for all parts is over")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe(device: torch.device) -> dict[str, str]:
    """Device and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "torch": torch.__version__, "python": sys.version.split()[0]}


def _print(name: str, made: list[Result], reason: str | None, seconds: float) -> None:
    """One JSON document on one line for each result, and one for the part."""
    for result in made:
        shown = {"what": result.title, "value": result.ours.median, "unit": result.ours.unit}
        if result.yardstick is not None:
            shown[result.yardstick.name] = result.yardstick.median
        print(json.dumps({**shown, **result.notes}), flush=True)
    print(json.dumps({"part": name, "seconds": round(seconds, 1), "missing": reason}), flush=True)


def _write(
    out: Path,
    machine: dict[str, str],
    results: list[Result],
    missing: dict[str, str],
    *,
    quick: bool,
) -> None:
    marked = [replace(each, notes={**machine, **each.notes}) for each in results]
    part = Part(marked, quick)
    out.write_text(json.dumps({**part.to_dict(), "missing": missing}, indent=2), encoding="utf-8")
    lines = section("gpu", part)
    lines += ["", *(f"- {name}: {reason}" for name, reason in missing.items())]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
