"""A shop with dates and texts, served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.live_server import live_server
from support.shop import shop_runs


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs of the shop by name."""
    return shop_runs(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def shop_address(shop: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the shop's runs."""
    with live_server(shop, tmp_path_factory.mktemp("shop-store") / "s.db") as address:
        yield address
