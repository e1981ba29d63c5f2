"""`docs/benchmarks.md` from results."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.result import Measurement, Part, Result

_HEAD = """# Benchmarks

Made by `make bench`, which runs every part below in a process of its own (`python -m benchmarks PART`
runs one). Every row pairs our number with a yardstick measured in the same run, or with the bar that a
release keeps. The numbers are medians with the spread (largest minus smallest) of the repetitions. A ratio
above 1 means that the yardstick takes more. A part marked quick did some of the work and scaled it.
"""


def to_markdown(
    machine: dict[str, str], parts: dict[str, Part], missing: Mapping[str, str] | None = None
) -> str:
    """The whole page; `missing` are the parts that gave no result, and why."""
    lines = [_HEAD, "## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine.items()]
    for name, part in parts.items():
        quick = " (quick)" if part.quick else ""
        lines += ["", f"## {name.capitalize()}{quick}", ""]
        lines += ["| what | ours | yardstick | ratio |", "|---|---|---|---|"]
        lines += [_row(result) for result in part.results]
        notes = {f"{k}: {v}" for result in part.results for k, v in result.notes.items()}
        if notes:
            lines += ["", *(f"- {note}" for note in sorted(notes))]
    if missing:
        lines += ["", "## Not measured", ""]
        lines += [f"- {part}: {reason}" for part, reason in missing.items()]
    return "\n".join(lines) + "\n"


def _row(result: Result) -> str:
    ratio = "-" if result.ratio is None else f"{result.ratio:.2f}"
    other = _shown(result.yardstick) if result.yardstick else f"none: {_one_line(result.missing)}"
    return f"| {result.title} | {_shown(result.ours)} | {other} | {ratio} |"


def _shown(found: Measurement) -> str:
    spread = f" ± {found.spread:.3g}" if len(found.values) > 1 else ""
    return f"{found.median:.3g}{spread} {found.unit} ({found.name})"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")
