"""`python -m benchmarks`: run the benchmarks, each in a process of its own, and write docs/benchmarks.md.

What a part measured stays in the scratch folder, so the page can be made again from parts that were run
one by one. A part that fails is named on the page, the others run on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.data import SOURCE
from benchmarks.machine import describe
from benchmarks.report import to_markdown
from benchmarks.result import Part

PARTS = (
    "training",
    "plan",
    "encoders",
    "libraries",
    "until",
    "embedding",
    "neighbours",
    "million",
    "interactions",
    "processes",
    "clusters",
    "e4srec",
    "decoding",
    "serving",
    "replicas",
)
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Parse the command line and run."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.data is not None:
        os.environ[SOURCE] = str(options.data.resolve())
    if options.in_process:
        _run_here(options)
    elif options.install:
        _install(options.work)
    else:
        sys.exit(_run_all(options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(PARTS)}"
    )
    parser.add_argument("--quick", action="store_true", help="part of the work, scaled; minutes")
    parser.add_argument("--data", type=Path, help="folder with sequences.txt and items.csv")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench", help="scratch folder")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument(
        "--run",
        type=Path,
        help="serving, replicas: a trained run; one of an epoch is made without",
    )
    parser.add_argument(
        "--idgenrec",
        type=Path,
        help="decoding: a trained run; models of a few steps are made without",
    )
    parser.add_argument(
        "--install", action="store_true", help="only make the libraries' environments"
    )
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # not `choices`: argparse holds the default of an empty list of arguments against them
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part named {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options.parts = options.parts or list(PARTS)
    return options


def _run_here(options: argparse.Namespace) -> None:
    """One part in this process; it is given those options that it has."""
    (part,) = options.parts
    run = importlib.import_module(f"benchmarks.{part}").run
    known = {"quick": options.quick, "trained": options.run, "idgenrec": options.idgenrec}
    own = {key: known[key] for key in inspect.signature(run).parameters if key in known}
    results = run(options.work, **own)
    quick = bool(own.get("quick"))
    _file(options.work, part).write_text(json.dumps(Part(results, quick).to_dict()))


def _run_all(options: argparse.Namespace) -> int:
    missing = {}
    for part in options.parts:
        _file(options.work, part).unlink(missing_ok=True)
        print(f"running {part} ...", flush=True)
        started = time.perf_counter()
        status = subprocess.run(_command(options, part), cwd=ROOT).returncode
        print(f"{part}: {time.perf_counter() - started:.0f} s", flush=True)
        if status:
            missing[part] = f"failed with exit status {status}"
    done = {
        part: Part.from_dict(json.loads(_file(options.work, part).read_text()))
        for part in (*PARTS, "gpu")  # of `benchmarks.gpu`, on another machine
        if _file(options.work, part).exists()
    }
    page = to_markdown(describe(), done, missing)
    options.out.write_text(page, encoding="utf-8")
    print(page)
    return int(any("failed" in reason for reason in missing.values()))


def _command(options: argparse.Namespace, part: str) -> list[str]:
    """One part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", part, "--in-process"]
    command += ["--work", str(options.work.resolve())]
    command += ["--quick"] * options.quick
    for name in ("run", "idgenrec"):
        path = getattr(options, name)
        if path is not None:
            command += [f"--{name}", str(path.resolve())]
    return command


def _install(work: Path) -> None:
    from benchmarks.yardsticks import YARDSTICKS

    for yardstick in YARDSTICKS:
        print(f"{yardstick.title}: {yardstick.install(work / 'yardsticks')}", flush=True)


def _file(work: Path, part: str) -> Path:
    return work / f"{part}.json"


if __name__ == "__main__":
    main()
