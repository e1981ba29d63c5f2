"""The audit finds a leak in each place where one can be, and nothing where there is none."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from seqloom.cli.main import run as command
from seqloom.core.files import read_json, write_json
from seqloom.data import store as data_store
from seqloom.data.batches import TrainingRows
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.evaluation.ranks_file import read_ranks, write_ranks
from seqloom.inference.ann_index import Recall
from seqloom.pipelines.audit import audit
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.llmesr.system import LLMESR
from seqloom.text import store as text_store
from seqloom.text.neighbours import top_similar
from seqloom.text.similar_users import write_similar_users
from support.audit_leaks import (
    all_events,
    change_json,
    change_tensors,
    failed,
    failures,
    keep_hash,
    leak,
)
from support.datasets import SMALL, tiny_dataset

WORDS = ["soap", "cream", "oil", "comb", "brush", "lamp", "mug", "pot"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with two embeddings, a run that only counts, and one of LLM-ESR, both evaluated."""
    root = tmp_path_factory.mktemp("audit")
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(4, 13, (30,), generator=draw).tolist()
    weight = 1.0 / torch.arange(1, 25)
    histories = [torch.multinomial(weight, n, generator=draw).add(1).tolist() for n in lengths]
    titles = [f"{WORDS[n % 8]} {WORDS[n // 8]} number{n}" for n in range(24)]
    data = tiny_dataset(root / "data", histories, titles)
    embed(data, EmbedOptions(encoder="hash:64", name="prompt", default=True))
    embed(data, EmbedOptions(encoder="hash:64", name="mean", users="mean"))
    shared = {"semantic": {"encoder": "shared"}, "distillation": {"alpha": 0.1, "num_similar": 3}}
    settings = {**SMALL, **shared}
    train(data, "popularity", out=root / "popularity")
    train(data, "llmesr", out=root / "llmesr", config=settings, device="cpu")
    evaluate(root / "llmesr", device="cpu")
    evaluate(root / "llmesr", protocol="sampled", negatives=5, device="cpu")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    for name in ("data", "llmesr", "popularity"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["llmesr", "popularity"])
def test_an_honest_run_passes_every_check(made: Path, name: str) -> None:
    found = audit(made / name)
    assert [c.artefact for c in found.checks if c.verdict != "pass"] == []
    assert (found.passed, found.failed, found.unknown) == (True, 0, 0)


def test_events_moved_into_the_training_part(root: Path) -> None:
    def move(tensors: Any) -> None:
        tensors["train_end"][3] += 1

    change_tensors(root / "data" / "events.safetensors", move)
    assert failed(root, "data") >= {
        "events, users, items",
        "held-out positions",
        "training part",
        "prompts of users, 'prompt'",
    }
    # Whoever writes the hashes again is still found out by the rule of the split.
    data = Dataset.load(root / "data")
    print_ = data_store.fingerprint(data.item_ids, data.user_ids, data.events)
    manifest = root / "data" / "manifest.json"
    change_json(manifest, fingerprint=print_, training=data.training_hash)
    shutil.rmtree(root / "data" / "text")
    assert failed(root, "data") == {"held-out positions"}


def test_statistics_that_count_held_out_events(root: Path) -> None:
    data = Dataset.load(root / "data")
    facts = {**data.manifest.statistics, "train_events": data.num_events}
    change_json(root / "data" / "manifest.json", statistics=facts)
    assert failed(root, "data") == {"statistics"}


@pytest.mark.parametrize("users", ["prompt", "mean"])
def test_users_embedded_with_their_held_out_items(root: Path, users: str) -> None:
    shutil.rmtree(root / "data" / "text")
    data = Dataset.load(root / "data")
    with pytest.MonkeyPatch.context() as patch:
        leak(patch, data)
        embed(data, EmbedOptions(encoder="hash:64", name="leak", users=users))
    expected = {"vectors of users, 'leak'"}
    assert failed(root, "data") == expected | (
        {"prompts of users, 'leak'"} if users == "prompt" else set()
    )


def test_texts_with_more_than_the_catalogue(root: Path) -> None:
    data = Dataset.load(root / "data")
    titles = [f"{title} also bought" for title in data.items["title"].to_pylist()]
    data.items = data.items.set_column(1, "title", [titles])
    embed(data, EmbedOptions(encoder="hash:64", name="leak", users="none"))
    found = failed(root, "data")
    assert found == {"prompts of items, 'leak'", "vectors of items, 'leak'"}


@pytest.mark.parametrize("part", ["items", "users"])
def test_vectors_of_other_texts_under_an_honest_manifest(root: Path, part: str) -> None:
    folder = root / "data" / "text" / "prompt"
    digest = change_tensors(
        folder / f"{part}.safetensors", lambda t: t["embeddings"].copy_(t["embeddings"].roll(1, 0))
    )
    manifest = read_json(folder / "manifest.json", "manifest")
    manifest[part]["file_sha256"] = digest
    write_json(folder / "manifest.json", manifest)
    for file in folder.glob("neighbours-*"):
        file.unlink()
    assert failed(root, "data") == {f"vectors of {part}, 'prompt'"}
    skipped = audit(root / "data", encode=False)
    assert skipped.passed
    assert skipped.unknown == 3


def test_a_damaged_embedding(root: Path) -> None:
    (root / "data" / "text" / "mean" / "users.safetensors").write_bytes(b"nothing")
    assert failed(root, "data") == {"embeddings 'mean'"}


def test_neighbours_by_held_out_items(root: Path) -> None:
    data = Dataset.load(root / "data")
    path = root / "data" / "text" / "prompt"
    found = text_store.load_embeddings(data, "prompt")
    users = torch.zeros(30, 24)
    for user, row in enumerate(all_events(data).items.split(data.events.offsets.diff().tolist())):
        users[user, row.long() - 1] += 1
    write_similar_users(path, top_similar(users, 3), saw="user embeddings")
    assert failed(root, "data") == {"3 similar users, 'prompt'"}
    write_similar_users(path, top_similar(found.users, 3), saw="not known to seqloom")
    report = audit(root / "data")
    assert (report.passed, report.unknown) == (True, 1)


def test_approximate_neighbours(root: Path) -> None:
    data = Dataset.load(root / "data")
    path = root / "data" / "text" / "prompt"
    users = text_store.load_embeddings(data, "prompt").users
    recall = Recall(1.0, 3, 15, target=0.7, probes=1, lists=1)

    def keep(found: torch.Tensor) -> None:
        write_similar_users(path, found, saw="user embeddings", recall=recall)

    exact = top_similar(users, 10)
    mostly = torch.cat([exact[:, :2], exact[:, 3:4]], 1)  # two of three
    keep(mostly)
    assert audit(root / "data").passed
    keep(exact[:, 5:8])
    assert failed(root, "data") == {"3 similar users, 'prompt'"}
    keep(exact[:, :3].flip(1))
    assert failed(root, "data") == {"3 similar users, 'prompt'"}


def test_popularity_that_counts_held_out_events(root: Path) -> None:
    data = Dataset.load(root / "data")
    counts = torch.bincount(data.events.items.long(), minlength=25)[1:]
    file = root / "llmesr" / "popularity.safetensors"
    save_file({"counts": counts}, file)
    keep_hash(file)
    assert failed(root) == {"popularity"}


def test_a_system_that_counts_held_out_events(root: Path) -> None:
    data = Dataset.load(root / "data")
    with pytest.MonkeyPatch.context() as patch:
        leak(patch, data)
        train(data, "popularity", out=root / "leak")
    expected = {"popularity", "start of the weights", "counts and neighbours"}
    assert failed(root, "leak") == expected


def test_weights_that_start_from_held_out_events(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = LLMESR.initialise

    def leaky(self: Any, data: Any) -> None:
        honest(self, data)
        with torch.no_grad():
            self.collaborative[data.dataset.events.items.long() - 1] += 0.01

    data = Dataset.load(root / "data")
    with monkeypatch.context() as patch:
        patch.setattr(LLMESR, "initialise", leaky)
        config = {**SMALL, "epochs": 1, "distillation": {"alpha": 0}}
        train(data, "llmesr", out=root / "leak", config=config, device="cpu")
    assert failed(root, "leak") == {"start of the weights"}


def test_frozen_text_that_was_exchanged(root: Path) -> None:
    digest = change_tensors(
        root / "llmesr" / "weights.safetensors", lambda tensors: tensors["semantic.text"].add_(0.1)
    )
    change_json(root / "llmesr" / "manifest.json", weights_sha256=digest)
    assert failed(root) == {"frozen tensors"}


def test_a_run_of_embeddings_that_are_no_longer_there(root: Path) -> None:
    folder = root / "data" / "text" / "prompt"
    data = Dataset.load(root / "data")
    embed(
        data,
        EmbedOptions(encoder="hash:64", name="prompt", item_template="x {title}"),
        overwrite=True,
    )
    assert "text of the run, 'prompt'" in failed(root)
    assert folder.exists()


def test_every_embedding_of_a_run_is_checked(root: Path) -> None:
    data = Dataset.load(root / "data")
    embed(data, EmbedOptions(encoder="hash:48", name="table", users="none"))
    config = {
        **SMALL,
        "epochs": 1,
        "distillation": {"alpha": 0},
        "semantic": {"encoder": "recency"},
        "collaborative_text": "table",
    }
    train(data, "llmesr", out=root / "two-texts", config=config, device="cpu")
    manifest = load_run(root / "two-texts").manifest
    assert [text["name"] for text in manifest.texts] == ["prompt", "table"]
    assert not failed(root, "two-texts")
    again = EmbedOptions(encoder="hash:48", name="table", users="none", item_template="x {title}")
    embed(data, again, overwrite=True)
    assert failed(root, "two-texts") == {"text of the run, 'table'", "start of the weights"}


def test_a_system_whose_batches_reach_into_what_is_held_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqloom.systems import sequence

    honest = sequence.training_rows

    def leaky(train: Any, *rest: Any) -> TrainingRows:
        ends = (train.ends + 1).clamp(max=len(train.items))
        return honest(Sequences(train.items, train.starts, ends), *rest)

    monkeypatch.setattr(sequence, "training_rows", leaky)
    assert failed(root) == {"training batches", "training losses"}


def test_a_run_of_another_training_part(root: Path) -> None:
    manifest = read_json(root / "llmesr" / "manifest.json", "manifest")
    manifest["dataset"]["training"] = "0" * 64
    write_json(root / "llmesr" / "manifest.json", manifest)
    assert failed(root) == {"the run's training part"}


def test_ranks_of_other_targets(root: Path) -> None:
    file = root / "llmesr" / "ranks.parquet"
    table = read_ranks(file)
    write_ranks(file, replace(table, target_counts=table.target_counts + 1))
    assert failed(root) == {"targets and counts, ranks.parquet"}


def test_groups_cut_by_held_out_events(root: Path) -> None:
    file = root / "llmesr" / "ranks.parquet"
    table = read_ranks(file)
    higher = table.thresholds.model_copy(update={"item": table.thresholds.item + 1})
    write_ranks(file, replace(table, thresholds=higher))
    assert failed(root) == {"thresholds of the groups, ranks.parquet"}
    # Set by hand they are no leak, and no proof either.
    evaluate(root / "llmesr", dataset=root / "data", tail_item_below=99, device="cpu")
    report = audit(root / "llmesr", dataset=root / "data")
    assert (report.passed, report.unknown) == (True, 2)  # with seen items masked and kept


def test_sampled_items_that_the_user_has(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqloom.pipelines.audit import evaluations

    def own(data: Any, users: Any, count: Any, seed: Any) -> Any:
        return data.held_out("test").targets[:, None].repeat(1, count)

    monkeypatch.setattr(evaluations, "sample_negatives", own)
    assert failed(root) == {"sampled items, ranks-sampled5.parquet"}


def test_what_an_older_seqloom_did_not_keep_is_unknown(root: Path) -> None:
    change_json(root / "data" / "manifest.json", training="")
    manifest = read_json(root / "llmesr" / "manifest.json", "manifest")
    manifest["dataset"]["training"], manifest["start"] = "", {}
    write_json(root / "llmesr" / "manifest.json", manifest)
    report = audit(root / "llmesr", dataset=root / "data")
    unknown = [check.artefact for check in report.checks if check.verdict == "unknown"]
    assert report.passed
    assert unknown == ["training part", "the run's training part", "start of the weights"]


def test_an_ensemble_is_audited_by_its_members(root: Path) -> None:
    config = {"runs": [str(root / "popularity"), str(root / "llmesr")]}
    train(root / "data", "ensemble", out=root / "both", config=config, device="cpu")
    honest = audit(root / "both", dataset=root / "data")
    assert [c.artefact for c in honest.checks if c.verdict != "pass"] == ["weights of the members"]
    assert {"member llmesr: training batches", "member popularity: weights"} <= {
        check.artefact for check in honest.checks
    }
    digest = change_tensors(
        root / "llmesr" / "weights.safetensors", lambda tensors: tensors["semantic.text"].add_(0.1)
    )
    change_json(root / "llmesr" / "manifest.json", weights_sha256=digest)
    expected = {"member llmesr: weights", "member llmesr: frozen tensors"}
    assert failures(audit(root / "both", dataset=root / "data")) == expected
    shutil.rmtree(root / "llmesr")
    gone = audit(root / "both", dataset=root / "data")
    unknown = [check.artefact for check in gone.checks if check.verdict == "unknown"]
    assert unknown == ["member llmesr: weights", "weights of the members"]


def test_the_command_ends_with_one_where_a_check_fails(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["audit", str(root / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "data set"
    counts = torch.ones(24, dtype=torch.int64)
    file = root / "llmesr" / "popularity.safetensors"
    save_file({"counts": counts}, file)
    keep_hash(file)
    arguments = ["audit", str(root / "llmesr"), "--dataset", str(root / "data")]
    assert command([*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] == 1
    assert command(arguments) == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert "fail: popularity: train again" in shown


def test_what_is_neither_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["audit", str(tmp_path)]) == 2
    assert "missing" in capsys.readouterr().err
    write_json(tmp_path / "manifest.json", {"format": "other"})
    assert command(["audit", str(tmp_path)]) == 2
    assert "neither a prepared data set nor a run" in capsys.readouterr().err


def test_a_temporal_split_is_made_again(tmp_path: Path) -> None:
    from seqloom.pipelines.prepare.options import PrepareOptions
    from seqloom.pipelines.prepare.prepare import prepare

    rows = [(f"u{u}", f"i{(u * 7 + t) % 9}", 1000 * t + u) for u in range(20) for t in range(8)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    prepare(log, tmp_path / "data", options=PrepareOptions(split="temporal"))
    report = audit(tmp_path / "data")
    assert [check.verdict for check in report.checks] == ["pass"] * 6


def test_cold_items_and_users_are_checked(tmp_path: Path) -> None:
    from seqloom.pipelines.prepare.options import PrepareOptions
    from seqloom.pipelines.prepare.prepare import prepare

    rows = [(f"u{u}", f"i{(u * 7 + t * t) % 19}", t) for u in range(40) for t in range(8)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    prepare(log, tmp_path / "users", options=PrepareOptions(cold_users=0.1))
    assert [check.verdict for check in audit(tmp_path / "users").checks] == ["pass"] * 6
    data = prepare(log, tmp_path / "items", options=PrepareOptions(cold_items=0.2))
    assert [check.verdict for check in audit(tmp_path / "items").checks] == ["pass"] * 7

    def meet(tensors: Any) -> None:
        tensors["items"][0] = data.num_items

    change_tensors(tmp_path / "items" / "events.safetensors", meet)
    assert failed(tmp_path, "items") >= {"cold items", "training part"}


def test_the_audit_hashes_the_files_of_a_data_set_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file is only sampled when it is opened: a change between the samples is the audit's to find."""
    from seqloom.core import records

    monkeypatch.setattr(records, "_WHOLE", 100)
    monkeypatch.setattr(records, "_BLOCKS", 2)
    monkeypatch.setattr(records, "_BLOCK", 16)
    file = root / "data" / "items.parquet"
    keep_hash(file)
    assert failed(root, "data") == set()
    changed = bytearray(file.read_bytes())
    place = changed.index(b"number")  # in the text of an item, which no other check reads
    changed[place] ^= 1
    file.write_bytes(changed)
    assert failed(root, "data") >= {"files of the data set"}


def test_the_audit_of_an_older_folder_reports_that_there_are_no_hashes(root: Path) -> None:
    change_json(root / "data" / "manifest.json", files={})
    found = {check.artefact: check for check in audit(root / "data").checks}
    assert found["files of the data set"].verdict == "unknown"
    assert "kept no hashes" in found["files of the data set"].found
