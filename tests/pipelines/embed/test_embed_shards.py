"""Embeddings in shards end as those of a single call do: values, texts, and what was seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.cli.main import run
from seqloom.core.errors import ArtefactError, EmbeddingError
from seqloom.data.store import Dataset
from seqloom.jobs.local import LocalRunner
from seqloom.jobs.shards import Shard, every_shard
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.embed_shards import embed_shard, embed_sharded, merge_shards
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.text import embedding_shards, resume
from seqloom.text.encoders.hashing import HashEncoder
from seqloom.text.store import TextEmbeddings, load_embeddings
from support.datasets import tiny_dataset

TITLES = [f"{'red' if n % 3 else 'blue'} thing {'and more ' * (n % 5)}{n}" for n in range(50)]
HISTORIES = [[1 + (u * 7 + step) % 50 for step in range(u % 9)] for u in range(40)]


class Together(HashEncoder):
    """Vectors depend on the texts that are encoded together, as a real encoder's last bits do."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__(16)
        self.chunk, self.seen, self.fail_at = 3, 0, fail_at

    def encode(self, texts: Any) -> torch.Tensor:
        self.seen += len(texts)
        if self.fail_at is not None and self.seen > self.fail_at:
            raise EmbeddingError("the service is gone")
        return super().encode(texts) + 1e-3 * max(map(len, texts))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rows a block, so that a small data set has several."""
    monkeypatch.setattr(resume, "BLOCK", 8)
    monkeypatch.setattr(embedding_shards, "BLOCK", 8)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return tiny_dataset(tmp_path / "data", HISTORIES, TITLES)


@pytest.fixture
def single(tmp_path: Path) -> TextEmbeddings:
    """The same data set, embedded by one call."""
    made = tiny_dataset(tmp_path / "single", HISTORIES, TITLES)
    embed(made, options(), encoder=Together())
    return load_embeddings(made)


def options(**values: Any) -> EmbedOptions:
    return EmbedOptions.build({"encoder": "hash:16", **values})


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_merged_shards_equal_a_single_call(
    data: Dataset, single: TextEmbeddings, count: int
) -> None:
    for shard in reversed(every_shard(count)):
        embed_shard(data, options(), shard, encoder=Together())
    reader = Together()
    merge_shards(data, options(), encoder=reader)
    made = load_embeddings(data)
    assert reader.seen == 0
    assert torch.equal(made.items, single.items)
    assert torch.equal(made.users, single.users)
    apart = {"seconds"}
    for part in ("items", "users"):
        reported, expected = (
            getattr(m.manifest, part).model_dump(exclude=apart) for m in (made, single)
        )
        assert reported == expected
    assert not list((data.path / "text").glob(".*"))


def test_shards_divide_the_texts(data: Dataset) -> None:
    made = [embed_shard(data, options(), shard, encoder=Together()) for shard in every_shard(3)]
    assert sum(one.items for one in made) == 50
    assert sum(one.users for one in made) == 40
    assert sum(one.encoded for one in made) == 50 + sum(len(h) > 0 for h in HISTORIES)
    assert all(one.items + one.users for one in made)


def test_mean_users_need_no_shard(data: Dataset) -> None:
    for shard in every_shard(2):
        assert embed_shard(data, options(users="mean"), shard, encoder=Together()).users == 0
    merge_shards(data, options(users="mean"), encoder=Together())
    made = load_embeddings(data)
    assert torch.allclose(
        made.users[2], made.items[torch.tensor(HISTORIES[2][:-2] or HISTORIES[2]) - 1].mean(0)
    )


def test_a_shard_called_again_does_nothing_and_an_interrupted_one_resumes(data: Dataset) -> None:
    with pytest.raises(EmbeddingError, match="gone"):
        embed_shard(data, options(), Shard(0, 2), encoder=Together(fail_at=10))
    again = Together()
    first = embed_shard(data, options(), Shard(0, 2), encoder=again)
    assert 0 < again.seen < first.encoded
    once_more = Together()
    assert embed_shard(data, options(), Shard(0, 2), encoder=once_more).reused
    assert once_more.seen == 0


def test_a_damaged_shard_is_made_again(data: Dataset) -> None:
    file = embed_shard(data, options(), Shard(0, 2), encoder=Together()).file
    with open(file, "r+b") as handle:
        handle.truncate(100)
    assert not embed_shard(data, options(), Shard(0, 2), encoder=Together()).reused


def test_missing_shards_are_named(data: Dataset) -> None:
    with pytest.raises(ArtefactError, match="no shards"):
        merge_shards(data, options(), encoder=Together())
    for index in (0, 2):
        embed_shard(data, options(), Shard(index, 4), encoder=Together())
    with pytest.raises(ArtefactError, match=r"2 of 4 shards .* \(1/4, 3/4\)"):
        merge_shards(data, options(), encoder=Together())


def test_shards_of_other_options_do_not_mix(data: Dataset) -> None:
    embed_shard(data, options(), Shard(0, 2), encoder=Together())
    embed_shard(data, options(item_template="a {title}"), Shard(1, 2), encoder=Together())
    with pytest.raises(ArtefactError, match="1 of 2 shards"):
        merge_shards(data, options(), encoder=Together())


def test_a_shard_with_other_texts_than_the_data_set_is_refused(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        embedding_shards, "sha256_file", lambda file: "as if the catalogue had not changed"
    )
    embed_shard(data, options(), Shard(0, 1), encoder=Together())
    changed = tiny_dataset(data.path.parent / "changed", HISTORIES, ["other", *TITLES[1:]])
    (data.path / "text").rename(changed.path / "text")
    with pytest.raises(ArtefactError, match="other texts"):
        merge_shards(changed, options(), encoder=Together())


def test_merging_twice_changes_nothing(data: Dataset) -> None:
    embed_shard(data, options(), Shard(0, 1), encoder=Together())
    merge_shards(data, options(), encoder=Together())
    file = data.path / "text" / "hash-16" / "manifest.json"
    before = file.stat().st_mtime_ns
    merge_shards(data, options(), encoder=Together())
    assert file.stat().st_mtime_ns == before


def test_worker_processes_embed_as_a_single_call(data: Dataset, tmp_path: Path) -> None:
    with LocalRunner(2) as engine:
        summary = embed_sharded(engine, data, options(), shards=3)
    other = tiny_dataset(tmp_path / "other", HISTORIES, TITLES)
    embed(other, options())
    assert summary.encoded == 50 + sum(len(h) > 0 for h in HISTORIES)
    assert torch.equal(load_embeddings(data).items, load_embeddings(other).items)
    assert torch.equal(load_embeddings(data).users, load_embeddings(other).users)


def test_the_command_line_divides_a_job(
    data: Dataset, single: TextEmbeddings, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["embed", str(data.path), "--encoder", "hash:16", "--json"]
    for index in range(2):
        assert run([*command, "--shard", f"{index}/2"]) == 0
        assert json.loads(capsys.readouterr().out)["shard"] == f"{index}/2"
    assert run([*command, "--merge"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 50
    assert run([*command, "--merge", "--shard", "0/2"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert run([*command, "--workers", "2"]) == 2
    assert "--workers needs --engine" in capsys.readouterr().err
