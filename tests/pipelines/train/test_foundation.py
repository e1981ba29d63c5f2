"""What a user does with IDGenRec: name items, train on several data sets, try another one, check the beam."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from seqloom.cli.main import run as command
from seqloom.core.config import apply_overrides
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import read_json, write_json
from seqloom.data.store import Dataset
from seqloom.llm.generation.tokenizers import train_tokenizer
from seqloom.pipelines.evaluate.beam_loss import evaluate_exact
from seqloom.pipelines.evaluate.zero_shot import zero_shot
from seqloom.pipelines.train.fit_run import start_system
from seqloom.pipelines.train.foundation import merge, train_foundation
from seqloom.pipelines.train.textual_ids import textual_ids
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.registry import system_class
from support.datasets import SMALL_IDGENREC, SMALL_MODEL, tiny_dataset

# fmt: off
WORDS = [
    "red", "blue", "green", "hand", "hair", "nail", "soap", "cream", "brush", "oil", "film",
    "story", "dark", "night", "city",
]
# fmt: on
SMALL: dict[str, Any] = {**SMALL_IDGENREC, "rounds": 1, "temperature": 2.0, "warmup_steps": 0}


def catalogue(folder: Path, name: str, items: int, users: int, shift: int) -> Dataset:
    titles = [f"{WORDS[(i + shift) % 15]} {WORDS[(3 * i + shift) % 15]}" for i in range(items)]
    histories = [[(u + 2 * n) % items + 1 for n in range(4 + u % 4)] for u in range(users)]
    return tiny_dataset(folder / name, histories, titles)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Three small shops."""
    folder = tmp_path_factory.mktemp("data")
    return [catalogue(folder, f"d{n}", 12 + 3 * n, 20 + 5 * n, 2 * n) for n in range(3)]


@pytest.fixture(scope="module")
def foundation(three: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "base"
    train_foundation(three[:2], "idgenrec", out=out, config=SMALL, device="cpu")
    return out


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with its tokenizer, as a hub gives it."""
    from seqloom.llm.config import NetworkConfig
    from seqloom.llm.generation.networks import build_network

    folder = tmp_path_factory.mktemp("lm")
    tokenizer = train_tokenizer(WORDS, 400)
    torch.manual_seed(0)
    build_network(NetworkConfig(source="t5", **SMALL_MODEL), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_merged_data_sets_keep_every_event_in_its_part(three: list[Any], tmp_path: Path) -> None:
    merged = merge(three, tmp_path / "all")
    assert merged.num_items == sum(d.num_items for d in three)
    items = users = 0
    for number, dataset in enumerate(three):
        assert merged.item_ids[items] == f"d{number}/{dataset.item_ids[0]}"
        assert merged.user_ids[users] == f"d{number}/{dataset.user_ids[0]}"
        rows = torch.arange(users, users + dataset.num_users)
        part = merged.train.select(rows).flat()
        expected = dataset.train.flat()
        assert torch.equal(part[0], expected[0])
        assert torch.equal(part[1], expected[1] + items)
        for held_out in ("valid", "test"):
            mine, theirs = merged.held_out(held_out), dataset.held_out(held_out)
            own = (mine.users >= users) & (mine.users < users + dataset.num_users)
            assert torch.equal(mine.targets[own], theirs.targets + items)
        items += dataset.num_items
        users += dataset.num_users
    assert merge(three, tmp_path / "all").fingerprint == merged.fingerprint
    with pytest.raises(ArtefactError, match="already exists"):
        merge(three[:2], tmp_path / "all")


def test_data_sets_of_one_name_are_refused(three: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two data sets are called 'd0'"):
        merge([three[0], three[0]], tmp_path / "all")


def test_only_a_system_of_texts_is_a_foundation(three: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a run of 'idgenrec'"):
        train_foundation(three, "sasrec", out=tmp_path / "r")


def test_a_foundation_run_has_ids_for_all_data_sets(foundation: Path, three: list[Any]) -> None:
    run: Any = load_run(foundation)
    assert len(set(run.system.words())) == three[0].num_items + three[1].num_items
    assert run.dataset().manifest.options["origins"][1]["users"] == three[1].num_users
    (actual,) = run.recommend([["d1/i1", "d1/i2"]], k=3)
    assert len(actual.items) == 3


def test_zero_shot_stands_beside_popularity_and_an_untrained_model(
    foundation: Path, three: list[Any]
) -> None:
    before = (foundation / "weights.safetensors").read_bytes()
    actual = zero_shot(foundation, three[2], device="cpu")
    assert list(actual.systems) == ["zero-shot", "popularity", "untrained"]
    assert actual.users == three[2].num_users
    assert sum(actual.ids.values()) == three[2].num_items
    assert actual.systems["zero-shot"] != actual.systems["untrained"]
    assert actual.statement.startswith("Zero-shot: nothing of this data set was trained on.")
    assert (foundation / "zero-shot-d2.parquet").exists()
    assert json.loads((foundation / "zero-shot-d2.json").read_text())["items"] == actual.items
    assert (foundation / "weights.safetensors").read_bytes() == before
    assert zero_shot(foundation, three[2], device="cpu").systems == actual.systems


def test_popularity_beside_zero_shot_is_that_of_a_popularity_run(
    foundation: Path, three: list[Any], tmp_path: Path
) -> None:
    from seqloom.pipelines.evaluate.evaluate import evaluate

    train(three[2], "popularity", out=tmp_path / "p", device="cpu")
    expected = evaluate(tmp_path / "p", device="cpu").metrics
    actual = zero_shot(foundation, three[2], device="cpu").systems["popularity"]
    assert actual == {name: expected[name] for name in actual}


def test_zero_shot_needs_a_system_of_texts(three: list[Any], tmp_path: Path) -> None:
    train(three[2], "popularity", out=tmp_path / "p", device="cpu")
    with pytest.raises(ConfigError, match="needs a run of 'idgenrec'"):
        zero_shot(tmp_path / "p", three[0])
    with pytest.raises(ConfigError, match="scores the whole catalogue"):
        evaluate_exact(tmp_path / "p")


def test_zero_shot_is_on_data_that_was_not_trained_on(foundation: Path, three: list[Any]) -> None:
    with pytest.raises(ConfigError, match="nothing is zero-shot there"):
        zero_shot(foundation, three[0], device="cpu")


def few_shot(base: Path, data: Any, out: Path, **changes: Any) -> Path:
    """Trains on `data` for a short time, continuing `base`."""
    config = {**SMALL, "start_from": str(base), "generation": {"max_history": 2}, **changes}
    train(data, "idgenrec", out=out, config=config, device="cpu")
    return out


@pytest.fixture
def chain(three: list[Any], tmp_path: Path) -> tuple[Path, Path, Path]:
    """A base on d0 and d1, a run on d2 that went on from it, and one on d1 that went on from that."""
    base = tmp_path / "base"
    train_foundation(three[:2], "idgenrec", out=base, config=SMALL, device="cpu")
    second = few_shot(base, three[2], tmp_path / "second")
    return base, second, few_shot(second, three[1], tmp_path / "third")


def test_what_any_run_of_a_chain_was_trained_on_is_not_zero_shot(
    chain: tuple[Path, Path, Path], three: list[Any], tmp_path: Path
) -> None:
    base, second, third = chain
    for run, seen in ((base, three[:2]), (second, three), (third, three)):
        for data in seen:
            with pytest.raises(ConfigError, match="nothing is zero-shot there"):
                zero_shot(run, data, device="cpu")
    unseen = catalogue(tmp_path, "d9", 14, 12, 5)
    assert zero_shot(third, unseen, device="cpu").systems.keys() >= {"zero-shot", "untrained"}
    # A data set that holds one of them is not unseen either.
    with pytest.raises(ConfigError, match=r"d2, of the same events, is one of the data sets"):
        zero_shot(second, merge([three[2], unseen], tmp_path / "both"), device="cpu")


def test_data_that_moved_or_went_is_remembered_by_the_run(
    chain: tuple[Path, Path, Path], three: list[Any], tmp_path: Path
) -> None:
    base, second, _ = chain
    shutil.rmtree(tmp_path / "base-data")
    with pytest.raises(ConfigError, match="nothing is zero-shot there"):
        zero_shot(base, three[0], device="cpu")
    shutil.rmtree(base)
    with pytest.raises(ConfigError, match="nothing is zero-shot there"):
        zero_shot(second, three[0], device="cpu")


def without_lineage(run: Any) -> None:
    """The run as an older seqloom wrote it."""
    file = run / "manifest.json"
    manifest = read_json(file, "run")
    del manifest["lineage"]
    write_json(file, manifest)


def test_a_run_without_a_record_is_traced_or_refused(
    chain: tuple[Path, Path, Path], three: list[Any], tmp_path: Path
) -> None:
    base, second, _ = chain
    unseen = catalogue(tmp_path, "d9", 14, 12, 5)
    for run in (base, second):
        without_lineage(run)
        assert zero_shot(run, unseen, device="cpu").users == 12
        for data in three[:2]:
            with pytest.raises(ConfigError, match="nothing is zero-shot there"):
                zero_shot(run, data, device="cpu")
    (tmp_path / "base-data").rename(tmp_path / "elsewhere")
    for run in (base, second):
        with pytest.raises(ArtefactError, match=r"unknown what .* was trained on.*no longer at"):
            zero_shot(run, unseen, device="cpu")


def test_the_same_log_prepared_otherwise_is_not_unseen(tmp_path: Path) -> None:
    from seqloom.pipelines.prepare.options import PrepareOptions
    from seqloom.pipelines.prepare.prepare import prepare

    log = tmp_path / "log.csv"
    rows = [f"u{u},i{(u + 2 * n) % 9},{n}" for u in range(20) for n in range(4 + u % 4)]
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(9)], "title": WORDS[:9]})
    made = [
        prepare(log, tmp_path / f"p{least}", items=items, options=PrepareOptions(min_count=least))
        for least in (1, 6)
    ]
    assert made[0].fingerprint != made[1].fingerprint
    train(made[0], "idgenrec", out=tmp_path / "r", config=SMALL, device="cpu")
    with pytest.raises(ConfigError, match="p1, of the same events, is one of the data sets"):
        zero_shot(tmp_path / "r", made[1], device="cpu")


def test_the_untrained_model_is_the_one_that_training_began_with(
    chain: tuple[Path, Path, Path], three: list[Any], tmp_path: Path
) -> None:
    base, second, _ = chain
    config, sizes = IDGenRecConfig.build(SMALL), Sizes(num_items=three[2].num_items)
    started: Any = start_system("idgenrec", config, sizes, TrainingData(three[2]))
    first = started.recommender.state_dict()
    train(three[2], "idgenrec", out=tmp_path / "trained", config=SMALL, device="cpu")
    system: Any = load_run(tmp_path / "trained").system
    trained = system.recommender.state_dict()
    remade = system.starting_recommender().state_dict()
    assert any(not torch.equal(first[name], trained[name]) for name in remade)
    for name, value in remade.items():
        assert torch.equal(value, first[name]), name
    # If training continued a run, the first model is that of the run.
    base_system: Any = load_run(base).system
    second_system: Any = load_run(second).system
    earlier = base_system.recommender.state_dict()
    for name, value in second_system.starting_recommender().state_dict().items():
        assert torch.equal(value, earlier[name]), name


def test_a_changed_run_is_not_continued(
    chain: tuple[Path, Path, Path], three: list[Any], tmp_path: Path
) -> None:
    base, _, _ = chain
    file = base / "weights.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, file)
    with pytest.raises(ArtefactError, match=r"weights.safetensors was damaged or changed"):
        few_shot(base, three[2], tmp_path / "fourth")
    assert not (tmp_path / "fourth").exists()


def test_a_model_before_training_that_cannot_be_made_again_is_left_out(
    chain: tuple[Path, Path, Path], three: list[Any], tmp_path: Path
) -> None:
    base, second, _ = chain
    unseen = catalogue(tmp_path, "d9", 14, 12, 5)
    shutil.rmtree(base)
    actual = zero_shot(second, unseen, device="cpu")
    assert list(actual.systems) == ["zero-shot", "popularity"]
    assert "The model before training is left out" in actual.statement
    other = {**SMALL, "seed": 7}
    train_foundation(three[:2], "idgenrec", out=base, config=other, device="cpu")
    actual = zero_shot(second, unseen, device="cpu")
    assert "untrained" not in actual.systems
    assert "differ from those that the run recorded at its start" in actual.statement


def test_few_shot_continues_from_the_foundation(
    foundation: Path, three: list[Any], tmp_path: Path
) -> None:
    config = {**SMALL, "start_from": str(foundation)}
    summary = train(three[2], "idgenrec", out=tmp_path / "few", config=config, device="cpu")
    assert summary.valid["ndcg@10"] >= 0
    few: Any = load_run(tmp_path / "few").system
    assert len(set(few.words())) == three[2].num_items


def test_exact_reports_what_the_beam_loses(foundation: Path) -> None:
    actual = evaluate_exact(foundation, sample=10, device="cpu")
    assert (actual.users, actual.list_size) == (10, 8)
    assert 0 < actual.recall10 <= 1
    assert actual.list_metrics["hr@5"] <= 1
    system = load_run(foundation).system
    wide = system.config.model_copy(update={"num_beams": 100})
    run = load_run(foundation)
    run.system.config = wide
    every = evaluate_exact(run, device="cpu")
    assert (every.recall10, every.same_top10) == (1.0, 1.0)
    assert every.metrics == every.list_metrics


def test_the_ids_command_writes_and_shows_them(
    three: list[Any], pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ids.parquet"
    keys = ["generator.source=pretrained", f"generator.name={pretrained}", "ids.min_tokens=1"]
    arguments = [str(three[0].path), "--out", str(out), "--show", "3", "--device", "cpu"]
    overrides = [part for key in keys for part in ("--set", key)]
    assert command(["ids", *arguments, *overrides, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["items"] == document["unique"] == 12
    assert len(document["rows"]) == 3
    table = pq.read_table(out)
    assert table.column_names == ["item_id", "title", "id", "tokens"]
    assert table.column("item_id").to_pylist() == three[0].item_ids
    assert command(["ids", *arguments, *overrides]) == 2
    assert "already exists" in capsys.readouterr().err


def test_ids_of_a_runs_generator(foundation: Path, three: list[Any], tmp_path: Path) -> None:
    actual = textual_ids(three[2], run=foundation, out=tmp_path / "i.parquet", device="cpu")
    assert actual.unique == three[2].num_items
    with pytest.raises(ConfigError, match="either a run"):
        textual_ids(three[2], run=foundation, config={"rounds": 1}, out=tmp_path / "j.parquet")


def test_training_takes_ids_that_were_made_before(
    three: list[Any], pretrained: Path, tmp_path: Path
) -> None:
    model = {"source": "pretrained", "name": str(pretrained)}
    file = tmp_path / "ids.parquet"
    made = textual_ids(three[0], config={"generator": model}, out=file, show=99, device="cpu")
    names = [row["id"] for row in made.rows][::-1]
    pq.write_table(pq.read_table(file).set_column(2, "id", [names]), file)
    config = {**SMALL, "generator": model, "ids": {"file": str(file)}}
    train(three[0], "idgenrec", out=tmp_path / "run", config=config, device="cpu")
    loaded: Any = load_run(tmp_path / "run").system
    assert loaded.words() == names
    with pytest.raises(ArtefactError, match="has no ID for item 'i13'"):
        train(three[1], "idgenrec", out=tmp_path / "other", config=config, device="cpu")


def test_a_run_takes_new_items_immediately(foundation: Path, three: list[Any]) -> None:
    run: Any = load_run(foundation)
    before = len(run.item_ids)
    new = pa.table({"item_id": ["n1", "n2"], "title": ["red dark cream", ""], "more": ["a", "b"]})
    run.add_items(new)
    named = run.system.words(run.item_tables["ids"])
    assert len(set(named)) == before + 2
    assert named[:-2] == run.system.words()
    (actual,) = run.recommend([["n1", "d0/i2"]], k=before + 1)
    ids = [item.item_id for item in actual.items]
    assert "n2" in ids
    assert "n1" not in ids
    assert run.titles[-2:] == ["red dark cream", None]
    with pytest.raises(ConfigError, match="'n1' is in the catalogue already"):
        run.add_items(new)


def test_a_generator_from_scratch_names_nothing(three: list[Any], tmp_path: Path) -> None:
    config = apply_overrides({}, ["generator.source=t5"])
    with pytest.raises(ConfigError, match="knows nothing before it is trained"):
        textual_ids(three[0], config=config, out=tmp_path / "i.parquet")


def test_the_command_line_goes_the_whole_way(
    three: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(SMALL))
    paths = [str(dataset.path) for dataset in three]
    common = ["--system", "idgenrec", "--config", str(file), "--device", "cpu", "--quiet"]
    out = str(tmp_path / "base")
    assert command(["train", *paths[:2], *common, "--out", out]) == 2
    assert "--foundation" in capsys.readouterr().err
    assert command(["train", *paths[:2], *common, "--out", out, "--foundation"]) == 0
    shown = ["--device", "cpu", "--quiet"]
    assert command(["evaluate", out, *shown]) == 0
    assert command(["evaluate", out, "--zero-shot", "--dataset", paths[2], *shown]) == 0
    assert command(["evaluate", out, "--exact", "--sample", "5", *shown]) == 0
    out_text = capsys.readouterr().out
    for text in ("untrained", "against popularity p value", "recall10"):
        assert text in out_text
    assert command(["evaluate", out, "--zero-shot", *shown]) == 2
    assert command(["evaluate", out, "--sample", "5", *shown]) == 2


def test_the_system_is_registered_as_one_that_mixes_data_sets() -> None:
    assert system_class("idgenrec").mixes_datasets
