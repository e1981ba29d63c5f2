"""What an audit found: one check an artefact."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from seqloom.core.config import Config

Verdict = Literal["pass", "fail", "unknown"]


class Check(Config):
    """One artefact, and whether it saw only what it may."""

    artefact: str
    saw: str
    """What the artefact was allowed to see."""
    verdict: Verdict
    """`unknown`: it could not be made again here, so nothing is proved."""
    found: str
    """What the verdict goes by."""
    action: str | None = None
    """What to do; nothing after a pass."""


class Audit(Config):
    """The checks of a data set or a run."""

    path: str
    kind: Literal["data set", "run"]
    audited: str
    """When, as text."""
    seqloom: str
    """The version that audited."""
    of: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the files that the verdict is about."""
    passed: bool
    """Whether no check failed."""
    failed: int
    unknown: int
    checks: list[Check]


class Checks:
    """Collects checks as they are made."""

    def __init__(self) -> None:
        self.made: list[Check] = []
        self._prefix = ""

    def within(self, name: str) -> Checks:
        """The same collection for a run that this one is made of; artefacts are told apart by `name`."""
        part = Checks()
        part.made = self.made
        part._prefix = f"{self._prefix}{name}: "
        return part

    def judge(self, artefact: str, saw: str, ok: bool, *, good: str, bad: str, action: str) -> None:
        """A pass that says `good`, or a failure that says `bad` and what to do."""
        check = Check(
            artefact=f"{self._prefix}{artefact}",
            saw=saw,
            verdict="pass" if ok else "fail",
            found=good if ok else bad,
            action=None if ok else action,
        )
        self.made.append(check)

    def unknown(self, artefact: str, saw: str, why: str, action: str | None = None) -> None:
        """An artefact that cannot be made again here."""
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
        """All of them; `of` are the hashes of the files that were audited."""
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
        )
