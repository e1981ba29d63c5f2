from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ArtefactError, ConfigError, EmbeddingError
from seqloom.data.store import Dataset
from seqloom.pipelines.embed.embed import default_name, embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.text.encoders.hashing import HashEncoder
from seqloom.text.prompts import item_prompts, user_prompts
from seqloom.text.resume import encode_all
from seqloom.text.store import load_embeddings
from support.datasets import tiny_dataset

HISTORIES = [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3, 1], [3], []]
TITLES = ["red soap", "blue comb", "brush", "red nail"]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return tiny_dataset(tmp_path / "data", HISTORIES, TITLES)


class Counting(HashEncoder):
    """Counts texts; fails at the text number `fail_at`."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__(32)
        self.seen, self.fail_at = 0, fail_at

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        self.seen += len(texts)
        if self.fail_at is not None and self.seen > self.fail_at:
            raise EmbeddingError("the service is gone")
        return super().encode(texts)


def options(**values: Any) -> EmbedOptions:
    return EmbedOptions.build({"encoder": "hash:32", **values})


def test_items_and_users_are_what_the_encoder_gives_for_their_prompts(dataset: Dataset) -> None:
    summary = embed(dataset.path, options())
    made = load_embeddings(dataset)
    encoder = HashEncoder(32)
    assert torch.equal(made.items, encoder.encode(item_prompts(dataset).texts))
    texts = user_prompts(dataset).texts
    assert torch.equal(made.users[:4], encoder.encode(texts[:4]))
    assert (made.users[4] == 0).all()
    assert (summary.name, summary.items, summary.users, summary.width) == ("hash-32", 4, 5, 32)
    assert (summary.encoded, summary.items_reused, summary.users_reused) == (8, False, False)
    manifest = json.loads((dataset.path / "text" / "hash-32" / "manifest.json").read_text())
    assert manifest["items"]["saw"] == "items: item text only"
    assert manifest["users"]["saw"] == "users: training part only"
    assert manifest["users"]["without_text"] == 1
    assert manifest["encoder"] == {"kind": "hash", "width": 32}
    assert not list((dataset.path / "text").glob(".*"))


def test_mean_users_are_the_mean_of_their_training_items(dataset: Dataset) -> None:
    summary = embed(dataset, options(users="mean"))
    made = load_embeddings(dataset)
    assert torch.allclose(made.users[2], made.items[[1, 3, 0]].mean(dim=0))
    assert torch.allclose(made.users[3], made.items[2])
    assert (made.users[4] == 0).all()
    assert summary.encoded == 4


def test_a_second_call_encodes_nothing_and_changes_nothing(dataset: Dataset) -> None:
    embed(dataset, options())
    file = dataset.path / "text" / "hash-32" / "manifest.json"
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    encoder = Counting()
    summary = embed(dataset, options(), encoder=encoder)
    assert (encoder.seen, summary.encoded, summary.texts_per_s) == (0, 0, 0.0)
    assert summary.items_reused
    assert summary.users_reused
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def test_what_has_not_changed_is_reused_under_another_name_too(dataset: Dataset) -> None:
    embed(dataset, options(users="none"))
    encoder = Counting()
    summary = embed(dataset, options(name="more"), encoder=encoder)
    assert (summary.items_reused, summary.users_reused, encoder.seen) == (True, False, 4)


def test_other_content_replaces_only_on_request(dataset: Dataset) -> None:
    embed(dataset, options())
    encoder = Counting()
    with pytest.raises(ArtefactError, match="--overwrite"):
        embed(dataset, options(item_template="an {title}"), encoder=encoder)
    assert encoder.seen == 0
    embed(dataset, options(item_template="an {title}"), overwrite=True)
    assert load_embeddings(dataset).manifest.items.template == "an {title}"


def test_damaged_embeddings_are_made_again(dataset: Dataset) -> None:
    embed(dataset, options())
    file = dataset.path / "text" / "hash-32" / "items.safetensors"
    good = file.read_bytes()
    file.write_bytes(good[:-4])
    embed(dataset, options())
    assert file.read_bytes() == good


def test_work_that_was_finished_before_a_failure_is_kept(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(10)]
    failing = Counting(fail_at=7)
    with pytest.raises(EmbeddingError, match="gone"):
        encode_all(failing, texts, texts, tmp_path, name="x", shard=3)
    again = Counting()
    vectors, _, reused = encode_all(again, texts, texts, tmp_path, name="x", shard=3)
    assert (reused, again.seen) == (6, 4)
    assert torch.equal(vectors, HashEncoder(32).encode(texts))


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(4)]
    encode_all(Counting(), texts, texts, tmp_path, name="x", shard=2)
    sorted(tmp_path.iterdir())[0].write_bytes(b"half a file")
    again = Counting()
    encode_all(again, texts, texts, tmp_path, name="x", shard=2)
    assert again.seen == 2


def test_a_vector_that_is_no_embedding_names_its_item(dataset: Dataset) -> None:
    class Broken(HashEncoder):
        def encode(self, texts: Any) -> torch.Tensor:
            vectors = super().encode(texts)
            vectors[["brush" in text for text in texts]] = torch.nan
            return vectors

    with pytest.raises(EmbeddingError, match="'i3'"):
        embed(dataset, options(), encoder=Broken(32))
    assert not list((dataset.path / "text").glob("[!.]*"))


_SLOW = """
import sys, time
from seqloom.pipelines.embed.embed import EmbedOptions, embed
from seqloom.text import resume
from seqloom.text.encoders.hashing import HashEncoder

class Slow(HashEncoder):
    def encode(self, texts):
        time.sleep(0.2)
        return super().encode(texts)

resume.encode_all.__kwdefaults__["shard"] = 5
embed(sys.argv[1], EmbedOptions(encoder="hash:32"), encoder=Slow(32))
"""


def test_a_killed_run_resumes_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = [f"item number {n}" for n in range(200)]
    dataset = tiny_dataset(tmp_path / "data", [[n, n + 1, n + 2] for n in range(1, 50)], titles)
    process = subprocess.Popen([sys.executable, "-c", _SLOW, str(dataset.path)])
    try:
        deadline = time.monotonic() + 60
        while len(list(dataset.path.glob("text/.items-*/shard-*"))) < 3:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(ArtefactError, match="has no embeddings"):
        load_embeddings(dataset)
    finished = 5 * len(list(dataset.path.glob("text/.items-*/shard-*.safetensors")))
    monkeypatch.setitem(encode_all.__kwdefaults__, "shard", 5)
    encoder = Counting()
    summary = embed(dataset, options(), encoder=encoder)
    assert 15 <= finished < 200
    assert encoder.seen == summary.encoded == 200 + 49 - finished
    assert torch.equal(
        load_embeddings(dataset).items, HashEncoder(32).encode(item_prompts(dataset).texts)
    )
    assert not list((dataset.path / "text").glob(".*"))


def test_bad_options_are_explained(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'encoder'"):
        EmbedOptions.build({"encodr": "x"})
    with pytest.raises(ConfigError, match="cannot name"):
        embed(dataset, options(name="a/b"))
    nobody = tiny_dataset(tmp_path / "nobody", [[]], TITLES)
    with pytest.raises(ConfigError, match="--users none"):
        embed(nobody, options())


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("maker/Model-v2", "model-v2"),
        ("/a/b/model.gguf", "model"),
        ("openai:text-small", "openai-text-small"),
        ("folder/", "folder"),
    ],
)
def test_embeddings_are_named_after_their_encoder(encoder: str, name: str) -> None:
    assert default_name(encoder) == name


def test_every_text_keeps_its_row_for_any_shards(tmp_path: Path) -> None:
    texts = [f"w{n} " * (1 + n % 7) for n in range(50)]
    expected = HashEncoder(64).encode(texts)
    for shard in (1, 7, 50, None):
        vectors, _, _ = encode_all(
            HashEncoder(64), texts, texts, tmp_path / str(shard), name="x", shard=shard
        )
        assert torch.equal(vectors, expected)


def test_shards_of_another_width_are_refused(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(4)]
    encode_all(HashEncoder(8), texts, texts, tmp_path, name="x", shard=2)
    sorted(tmp_path.iterdir())[0].unlink()
    with pytest.raises(EmbeddingError, match="width"):
        encode_all(HashEncoder(16), texts, texts, tmp_path, name="x", shard=2)
