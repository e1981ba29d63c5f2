"""Renders `docs/benchmarks.md` from results."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from pathlib import Path

from benchmarks.result import Measurement, Part, Result

_HEAD = """# Benchmarks

`make bench` writes this page. It runs every part below in a process of its own; the command in a section
runs that part alone. Each row compares seqloom with a yardstick that the same run measured, or with a limit
that a release must keep ("bar"). Values are medians, followed by the spread (largest minus smallest) of the
repetitions. A ratio above 1 means that the yardstick takes more. A part marked "quick" did part of the work
and scaled it.
"""
_MACHINE = """## Machine

All parts were measured on this machine with these versions, unless a section names others.
"""
TITLES = {
    "encoders": "Other systems",
    "libraries": "Public libraries",
    "until": "Time to an accuracy",
    "neighbours": "Similar users",
    "million": "A million items",
    "interactions": "100 million interactions",
    "processes": "Two processes",
    "clusters": "Jobs in pieces",
    "e4srec": "E4SRec",
    "replicas": "Two servers",
    "gpu": "On a GPU",
}
"""Headings of parts whose name alone says too little."""
_COMMANDS = {
    "gpu": "PYTHONPATH=src python -m benchmarks.gpu --dataset FOLDER --encoder MINILM --llm SMOLLM2"
}
"""Commands of parts that do not run with the others."""


def to_markdown(
    machine: dict[str, str], parts: dict[str, Part], missing: Mapping[str, str] | None = None
) -> str:
    """Returns the whole page; `missing` has the parts without a result, and the reasons."""
    lines = [_HEAD, _MACHINE, "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine.items()]
    for name, part in parts.items():
        lines += section(name, part)
    if missing:
        lines += ["", "## Not measured", ""]
        lines += [f"- {part}: {reason}" for part, reason in missing.items()]
    return "\n".join(lines) + "\n"


def section(name: str, part: Part) -> list[str]:
    """A part: what it measures, its command, the values, what each value is, notes."""
    quick = " (quick)" if part.quick else ""
    lines = ["", f"## {TITLES.get(name, name.capitalize())}{quick}", ""]
    command = _COMMANDS.get(name, f"python -m benchmarks {name}")
    lines += [f"{_purpose(name)} `{command}`", ""]
    lines += ["| what | seqloom | yardstick | ratio |", "|---|---|---|---|"]
    lines += [_row(result) for result in part.results]
    lines += ["", "Compared:", "", *(f"- {_names(result)}" for result in part.results)]
    notes = {f"{k}: {v}" for result in part.results for k, v in result.notes.items()}
    if notes:
        lines += ["", "Details:", "", *(f"- {note}" for note in sorted(notes))]
    return lines


def _purpose(name: str) -> str:
    """The first docstring line of a part's module."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _row(result: Result) -> str:
    ratio = "-" if result.ratio is None else f"{result.ratio:.2f}"
    other = _value(result.yardstick) if result.yardstick else "-"
    return f"| {result.title} | {_value(result.ours)} | {other} | {ratio} |"


def _names(result: Result) -> str:
    """What the two values of a row are; a reason in place of a missing yardstick."""
    if result.yardstick:
        return f"{result.title}: {result.ours.name} / {result.yardstick.name}"
    return f"{result.title}: {result.ours.name} / none ({_one_line(result.missing)})"


def _value(measured: Measurement) -> str:
    spread = f" ± {_rounded(measured.spread)}" if len(measured.values) > 1 else ""
    return f"{_rounded(measured.median)}{spread} {measured.unit}".rstrip()


def _rounded(value: float) -> str:
    """Three significant digits; thousands are written out."""
    rounded = float(f"{value:.3g}")
    if abs(rounded) < 1000 or not math.isfinite(value):
        return f"{value:.3g}"
    return f"{rounded:,.0f}"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")
