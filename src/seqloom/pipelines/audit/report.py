"""The report of an audit: one check for each artefact."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.tabular import Tabular
from seqloom.data.order_checks import OrderCheck

Verdict = Literal["pass", "fail", "unknown"]


class Check(Config):
    """The verdict on one artefact."""

    artefact: str
    saw: str
    """The data that the artefact may depend on."""
    verdict: Verdict
    """`unknown`: it could not be recomputed here, so nothing is proved."""
    found: str
    """Reason for the verdict."""
    action: str | None = None
    """How to fix a failure or decide an unknown; None after a pass."""


class Audit(Tabular, Config):
    """The checks of a data set or a run."""

    path: str
    kind: Literal["data set", "run"]
    audited: str
    """Date and time, as text."""
    seqloom: str
    """The version of the audit."""
    of: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the audited files."""
    passed: bool
    """Whether no check failed."""
    failed: int
    unknown: int
    checks: list[Check]
    order: list[OrderCheck] = Field(default_factory=list)
    """Checks of the order of the data set's events; empty in an audit of an older seqloom."""

    def headline(self) -> str:
        """Returns what was audited and whether it passed, on one line."""
        return f"Audit of the {self.kind} {self.path}: {'passed' if self.passed else 'failed'}"

    def facts(self) -> dict[str, Any]:
        """Returns the numbers of checks by verdict."""
        proved = len(self.checks) - self.failed - self.unknown
        return {"passed": proved, "failed": self.failed, "unknown": self.unknown}

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns one row a check."""
        return [check.model_dump() for check in self.checks]


class Checks:
    """Collects checks."""

    def __init__(self) -> None:
        self.made: list[Check] = []
        self.order: list[OrderCheck] = []
        """Of the data set."""
        self._prefix = ""

    def within(self, name: str) -> Checks:
        """Returns a view for a run that this one is made of, which puts `name` before artefacts."""
        part = Checks()
        part.made = self.made
        part._prefix = f"{self._prefix}{name}: "
        return part

    def judge(self, artefact: str, saw: str, ok: bool, *, good: str, bad: str, action: str) -> None:
        """Adds a pass with the reason `good`, or a failure with the reason `bad` and an action."""
        check = Check(
            artefact=f"{self._prefix}{artefact}",
            saw=saw,
            verdict="pass" if ok else "fail",
            found=good if ok else bad,
            action=None if ok else action,
        )
        self.made.append(check)

    def unknown(self, artefact: str, saw: str, why: str, action: str | None = None) -> None:
        """Adds an artefact that cannot be recomputed here."""
        self.made.append(
            Check(
                artefact=f"{self._prefix}{artefact}",
                saw=saw,
                verdict="unknown",
                found=why,
                action=action,
            )
        )

    def report(self, path: str, kind: Literal["data set", "run"], of: dict[str, str]) -> Audit:
        """Builds the report of all checks; `of` are the hashes of the audited files."""
        from seqloom._version import __version__

        failed = sum(check.verdict == "fail" for check in self.made)
        return Audit(
            path=path,
            kind=kind,
            audited=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            seqloom=__version__,
            of=of,
            passed=not failed,
            failed=failed,
            unknown=sum(check.verdict == "unknown" for check in self.made),
            checks=self.made,
            order=self.order,
        )
