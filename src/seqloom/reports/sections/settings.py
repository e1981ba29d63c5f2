"""How the runs were made: hyper-parameters, seeds, encoders, hardware."""

from __future__ import annotations

from dataclasses import dataclass

from seqloom.reports.data import ReportData

_NONE = "–"


@dataclass(frozen=True)
class Settings:
    """Tables with a column for each run."""

    runs: list[str]
    made: list[tuple[str, list[str]]]
    """System, seed, encoder, hardware and epochs of each run."""
    differing: list[tuple[str, list[str]]]
    """Keys whose values differ between runs."""
    all: list[tuple[str, list[str]]]
    """All keys of all runs."""


def settings_tables(data: ReportData) -> Settings:
    """Returns what was set for each run; a key that a run does not have is a dash."""
    systems = data.systems
    keys = list(dict.fromkeys(key for s in systems for key in s.setup.settings))
    rows = [(key, [s.setup.settings.get(key, _NONE) for s in systems]) for key in keys]
    made = [
        (
            s.name,
            [
                s.system,
                _NONE if s.yardstick else str(s.seed),
                s.setup.encoder or "none",
                s.setup.device or _NONE,
                s.setup.epochs or _NONE,
            ],
        )
        for s in systems
    ]
    differing = [
        (key, values)
        for key, values in rows
        if len(set(values) - {_NONE}) > 1 and key not in ("system", "seed")
    ]
    return Settings([s.name for s in systems], made, differing, rows)
