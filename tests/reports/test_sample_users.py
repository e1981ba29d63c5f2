"""Sample users: ids, titles and ranks of what is shown."""

from __future__ import annotations

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.reports.sample_users import sample_users

SCRIPT = "<script>alert('x')</script> & Söhne"


def test_samples_show_ids_titles_and_ranks(dataset: Dataset) -> None:
    held_out = dataset.held_out("test")
    lists = {"a": torch.tensor([[40, 1, 0]]).expand(60, 3)}
    users = sample_users(dataset, held_out, lists, {"a": torch.arange(60)}, count=4, length=2)
    assert len({user.user_id for user in users}) == 4
    for user in users:
        row = dataset.user_numbers[user.user_id]
        history = held_out.histories.select(torch.tensor([row])).flat()[1].tolist()
        assert [item.item_id for item in user.history] == [f"i{n}" for n in history[-2:]]
        assert user.history_length == len(history)
        assert user.target.item_id == f"i{int(held_out.targets[row])}"
        assert [item.title for item in user.recommendations["a"]] == [SCRIPT, "item 1"]
        assert user.ranks == {"a": row}
    with pytest.raises(ConfigError, match="3 rows"):
        sample_users(dataset, held_out, {"a": torch.zeros(3, 1, dtype=torch.int64)})
    other = sample_users(dataset, held_out, lists, title_column="nothing", count=1)
    assert other[0].target.title == other[0].target.item_id
