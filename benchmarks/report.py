"""`docs/benchmarks.md` from results."""

from __future__ import annotations

from benchmarks.result import Measurement, Result

_HEAD = """# Benchmarks

Made by `python -m benchmarks PART`, one PART for each section below (`make bench` runs all parts); every row
pairs our number with a yardstick measured by the same process, or with the bar that a release keeps. The
numbers are medians with the spread (largest minus smallest) of the repetitions. A ratio above 1 means that
the yardstick takes more.
"""


def to_markdown(machine: dict[str, str], parts: dict[str, list[Result]]) -> str:
    """The whole page."""
    lines = [_HEAD, "## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine.items()]
    for part, results in parts.items():
        lines += ["", f"## {part.capitalize()}", ""]
        lines += ["| what | ours | yardstick | ratio |", "|---|---|---|---|"]
        lines += [_row(result) for result in results]
        notes = {f"{k}: {v}" for result in results for k, v in result.notes.items()}
        lines += ["", *(f"- {note}" for note in sorted(notes))]
    return "\n".join(lines) + "\n"


def _row(result: Result) -> str:
    ratio = "-" if result.ratio is None else f"{result.ratio:.2f}"
    other = _shown(result.yardstick) if result.yardstick else f"none: {result.missing}"
    return f"| {result.title} | {_shown(result.ours)} | {other} | {ratio} |"


def _shown(found: Measurement) -> str:
    spread = f" ± {found.spread:.3g}" if len(found.values) > 1 else ""
    return f"{found.median:.3g}{spread} {found.unit} ({found.name})"
