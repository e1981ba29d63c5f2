"""`python -m benchmarks`: run the benchmarks, each in a process of its own, and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.report import to_markdown
from benchmarks.result import Result

PARTS = ("training", "neighbours", "e4srec", "serving", "replicas")
_SERVED = ("serving", "replicas")
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", default=PARTS, choices=[*PARTS, []], help="default: all"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench", help="scratch folder")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument(
        "--run",
        type=Path,
        help=f"{', '.join(_SERVED)}: a trained run; one of an epoch is made without",
    )
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.in_process:
        (part,) = options.parts
        own = {"trained": options.run} if part in _SERVED else {}
        results = importlib.import_module(f"benchmarks.{part}").run(options.work, **own)
        _file(options.work, part).write_text(json.dumps([r.to_dict() for r in results]))
        return
    for part in options.parts:
        print(f"running {part} ...", flush=True)
        command = [sys.executable, "-m", "benchmarks", part, "--in-process"]
        command += ["--work", str(options.work.resolve())]
        if options.run is not None:
            command += ["--run", str(options.run.resolve())]
        subprocess.run(command, check=True, cwd=ROOT)
    done = {
        part: [Result.from_dict(raw) for raw in json.loads(_file(options.work, part).read_text())]
        for part in PARTS
        if _file(options.work, part).exists()
    }
    page = to_markdown(describe(), done)
    options.out.write_text(page, encoding="utf-8")
    print(page)


def _file(work: Path, part: str) -> Path:
    return work / f"{part}.json"


if __name__ == "__main__":
    main()
