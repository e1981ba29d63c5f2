"""axe-core, which finds faults of accessibility in a page. It comes through npm into a cache folder.

    python tests/support/axe.py

fetches it beforehand, as `.ci/services` does.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "4.14.1"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seqloom-tests"
_FETCH_S = 60


class MissingAxeError(Exception):
    """axe-core is not in the cache and cannot be fetched."""


def axe_source() -> str:
    """Returns the script, from the cache or through npm.

    Raises:
        MissingAxeError: there is no npm, or it fails.
    """
    kept = _CACHE / f"axe-core-{VERSION}.js"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_bytes(_fetch())
        partial.replace(kept)
    return kept.read_text(encoding="utf-8")


def _fetch() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingAxeError("there is no npm to fetch axe-core (Debian package npm)")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", f"axe-core@{VERSION}"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_FETCH_S)
        except subprocess.TimeoutExpired:
            raise MissingAxeError(f"npm did not fetch axe-core within {_FETCH_S} s") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            raise MissingAxeError("npm cannot fetch axe-core (no network?)")
        with tarfile.open(fileobj=io.BytesIO(archives[0].read_bytes())) as archive:
            script = archive.extractfile("package/axe.min.js")
            assert script is not None
            return script.read()


if __name__ == "__main__":
    try:
        axe_source()
    except MissingAxeError as missing:
        sys.exit(str(missing))
