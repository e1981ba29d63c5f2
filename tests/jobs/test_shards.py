from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqloom.core.errors import ConfigError
from seqloom.jobs.shards import Shard, every_shard


@given(st.integers(0, 5000), st.integers(1, 40), st.integers(1, 300))
def test_shards_cover_every_row_once_in_whole_blocks(total: Any, count: Any, block: Any) -> None:
    parts = [shard.of(total, block) for shard in every_shard(count)]
    assert [row for part in parts for row in part] == list(range(total))
    assert all(part.start % block == 0 for part in parts if part)
    sizes = [-(-len(part) // block) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_a_shard_is_read_as_it_is_written() -> None:
    assert Shard.parse("3/8") == Shard(3, 8)
    assert str(Shard(3, 8)) == "3/8"
    assert Shard(3, 12).label < Shard(10, 12).label


@pytest.mark.parametrize("text", ["8/8", "0/0", "1", "1/", "-1/2", "a/b", "1/2/3"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="shard"):
        Shard.parse(text)
