from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.progress import SilentProgress
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.text.approximate import top_similar_approximately
from seqloom.text.neighbours import cosines, top_similar
from seqloom.text.similar_users import load_similar_users
from seqloom.text.store import load_embeddings
from support.datasets import tiny_dataset


@pytest.fixture(scope="module")
def users() -> torch.Tensor:
    """4,000 texts on 300 subjects; some say nothing, some the same."""
    draw = torch.Generator().manual_seed(0)
    subjects = torch.randn(300, 24, generator=draw)[torch.randint(300, (4000,), generator=draw)]
    made = subjects + 0.5 * torch.randn(4000, 24, generator=draw)
    made[5] = made[3999] = 0
    made[100:130] = made[100]
    return made


class Heard(SilentProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def note(self, message: Any) -> None:
        self.messages.append(message)


def test_recall_is_reported_and_is_that_of_all_users(users: torch.Tensor) -> None:
    actual, reported = top_similar_approximately(users, 10, 0.9)
    last = cosines(users, torch.arange(4000), top_similar(users, 10))[:, -1:]
    recall = float((cosines(users, torch.arange(4000), actual) >= last - 1e-6).double().mean())
    assert reported.recall >= 0.85
    assert reported.probes < reported.lists
    assert recall == pytest.approx(reported.recall, abs=0.03)


def test_no_user_is_similar_to_themselves_and_the_most_similar_come_first(
    users: torch.Tensor,
) -> None:
    actual, _ = top_similar_approximately(users, 10, 0.9)
    assert not (actual == torch.arange(4000)[:, None]).any()
    assert all(len(set(line)) == 10 for line in actual.tolist())
    assert (cosines(users, torch.arange(4000), actual).diff(dim=1) <= 1e-9).all()
    copies = actual[100:130]
    assert ((copies >= 100) & (copies < 130)).all()


def test_users_without_text_are_similar_to_no_one(users: torch.Tensor) -> None:
    actual, _ = top_similar_approximately(users, 10, 0.9)
    silent = torch.tensor([5, 3999])
    assert torch.equal(actual[silent], top_similar(users, 10, of=silent))
    assert not torch.isin(actual[:3999], silent).any()


def test_the_same_seed_finds_the_same(users: torch.Tensor) -> None:
    one, two = (top_similar_approximately(users, 10, 0.9, seed=3)[0] for _ in range(2))
    assert torch.equal(one, two)


def test_a_dataset_keeps_the_neighbours_with_its_recall(tmp_path: Path) -> None:
    histories = [[1 + (u + n) % 7 for n in range(3)] for u in range(60)]
    data = tiny_dataset(tmp_path / "data", histories, [f"word{n} soap" for n in range(7)])
    embed(data, EmbedOptions(encoder="hash:32", name="one"))
    first, second = Heard(), Heard()
    actual = load_embeddings(data).similar_users(3, first, recall=0.9)
    assert torch.equal(load_embeddings(data).similar_users(3, second, recall=0.9), actual)
    assert "recall@3 1.0000" in first.messages[0]
    assert "recall@3 1.0000" in second.messages[0]
    exact = load_embeddings(data).similar_users(3)
    kept = {each.file.name: each for each in load_similar_users(load_embeddings(data).path)}
    assert set(kept) == {"neighbours-3.safetensors", "neighbours-3-approximate-0.9.safetensors"}
    assert torch.equal(kept["neighbours-3.safetensors"].users, exact)
    assert kept["neighbours-3.safetensors"].recall is None
    with safe_open(kept["neighbours-3-approximate-0.9.safetensors"].file, "pt") as file:
        assert json.loads(file.metadata()["recall"])["target"] == 0.9


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", [[1, 2, 3], [2, 3, 1], [3, 1, 2]], ["a", "b", "c"])
    embed(data, EmbedOptions(encoder="hash:32", name="one"))
    file = data.path / "text" / "one" / "neighbours-2-approximate-0.9.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(ArtefactError, match=r"neighbours-2-approximate.*delete it"):
        load_embeddings(data).similar_users(2, recall=0.9)


def test_without_faiss_nothing_is_searched(
    users: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"seqloom\[ann\]"):
        top_similar_approximately(users, 10, 0.9)
