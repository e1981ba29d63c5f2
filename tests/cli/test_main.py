"""The entry point: what it sets before a command begins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from seqloom.cli.main import share_cores


def test_waiting_threads_sleep_soon() -> None:
    environment = {"PATH": "/bin"}
    share_cores(environment)
    assert environment == {"PATH": "/bin", "GOMP_SPINCOUNT": "10000"}


@pytest.mark.parametrize(
    "own", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": ""}]
)
def test_what_the_user_set_stays(own: dict[str, str]) -> None:
    environment = dict(own)
    share_cores(environment)
    assert environment == own


PROBE = """
import os, sys
from seqloom.cli import main as entry

def run(argv):
    print("torch" in sys.modules, os.environ.get("GOMP_SPINCOUNT"))
    return 0

entry.run = run
entry.main([])
"""


def test_it_is_set_before_torch_is_imported() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_WAIT"))}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "10000"]
