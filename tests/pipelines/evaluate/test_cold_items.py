"""Items and users that training never meets, from `prepare` to the table of `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from seqloom.cli.main import run as command
from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.evaluation.ranks_file import read_ranks
from seqloom.pipelines.audit import audit
from seqloom.pipelines.compare.compare import compare
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.evaluate.evaluate import Evaluation, evaluate
from seqloom.pipelines.experiments.reproduce import reproduce
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare, statistics_table
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from support.datasets import SMALL, small_config

COLOURS = ["red", "blue", "green"]


def shop_log(users: int = 60, items: int = 48) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Each user stays with the items of one colour, which their titles tell."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    for user in range(users):
        own = torch.arange(user % 3, items, 3)
        chosen = own[torch.randperm(len(own), generator=draw)[: 6 + user % 5]].tolist()
        rows += [(f"u{user}", f"i{item:02}", time) for time, item in enumerate(chosen)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    titles = [f"{COLOURS[n % 3]} {COLOURS[n % 3]} thing {n}" for n in range(items)]
    return log, pl.DataFrame({"item_id": [f"i{n:02}" for n in range(items)], "title": titles})


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """12 of 48 items are cold."""
    log, items = shop_log()
    options = PrepareOptions(min_count=1, cold_items=0.25)
    made = prepare(log, tmp_path_factory.mktemp("cold") / "data", items=items, options=options)
    embed(made, EmbedOptions(encoder="hash:64", users="mean"))
    return made


def trained(data: Dataset, name: str, out: Path, **more: Any) -> Evaluation:
    config = {**small_config(name), **more}
    train(data, name, out=out, config=config, device="cpu")
    return evaluate(out, device="cpu")


def metric(found: Evaluation, among: str, by: str, name: str = "hr@5") -> Any:
    (one,) = [r for r in found.cold.rankings if (r.among, r.by) == (among, by)]
    return one.metrics[name]


def test_cold_items_are_test_targets_or_nowhere(cold: Dataset) -> None:
    assert (cold.num_items, cold.num_cold_items, cold.warm.num_items) == (48, 12, 36)
    assert int(cold.popularity[37:].sum()) == 0
    targets = cold.held_out("test").targets
    assert int(cold.held_out("valid").targets.max()) <= 36
    assert int(cold.held_out("test").histories.flat()[1].max()) <= 36
    facts = cold.manifest.statistics
    assert facts["test_targets_cold"] == int((targets > 36).sum()) > 3
    assert facts["cold_events_removed"] == sum(6 + u % 5 for u in range(60)) - cold.num_events
    assert cold.split == "leave-one-out, 12 cold items"
    assert ("cold items", "12") in statistics_table(cold)
    assert cold.manifest.options["cold_items"] == 0.25


def test_the_warm_view_is_a_data_set_without_them(cold: Dataset) -> None:
    warm = cold.warm
    assert warm.warm is warm
    assert warm.item_ids == cold.item_ids[:36]
    assert warm.num_events == cold.num_events - cold.manifest.statistics["test_targets_cold"]
    assert int(warm.events.items.max()) <= 36
    part, whole = warm.held_out("test"), cold.held_out("test")
    kept = whole.targets <= 36
    assert part.users.tolist() == whole.users[kept].tolist()
    assert part.targets.tolist() == whole.targets[kept].tolist()
    assert (
        part.histories.pad().items.tolist()
        == whole.histories.select(kept.nonzero().flatten()).pad().items.tolist()
    )
    assert warm.training_hash == cold.training_hash


def test_the_choice_is_seeded_and_part_of_the_fingerprint(cold: Dataset, tmp_path: Path) -> None:
    log, items = shop_log()
    for name, seed in (("same", 42), ("other", 7)):
        options = PrepareOptions(min_count=1, cold_items=0.25, cold_seed=seed)
        prepare(log, tmp_path / name, items=items, options=options)
    same, other = (Dataset.load(tmp_path / name) for name in ("same", "other"))
    assert same.fingerprint == cold.fingerprint != other.fingerprint
    assert set(other.item_ids[36:]) != set(cold.item_ids[36:])


def test_a_system_of_numbers_puts_them_last(cold: Dataset, tmp_path: Path) -> None:
    found = trained(cold, "itemknn", tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.item_ids == cold.item_ids[:36]
    assert found.cold.how == (
        "not at all: itemknn knows only the items of its training, so they are behind all others"
    )
    assert metric(found, "all items", "itemknn") == 0.0
    assert metric(found, "cold items", "itemknn") == 0.0
    assert metric(found, "cold items", "random") == pytest.approx(5 / 12)
    # The titles tell the colour, so the text alone is better than chance.
    assert metric(found, "cold items", "text neighbours") > 5 / 12
    groups = found.groups
    assert groups["cold_item"]["users"] == found.cold.users
    assert groups["cold_item"]["users"] + groups["warm_item"]["users"] == found.users
    warm_counts = groups["tail_item"]["users"] + groups["head_item"]["users"]
    assert warm_counts == groups["warm_item"]["users"]
    table = read_ranks(tmp_path / "run" / "ranks.parquet")
    assert int(table.cold.sum()) == found.cold.users
    assert "12 cold items" in found.statement
    (someone,) = recommend(run, users=[cold.user_ids[0]], k=5)
    assert len(someone.items) == 5


@pytest.mark.parametrize("encoder", ["shared", "recency"])
def test_llmesr_scores_them_by_their_text(cold: Dataset, tmp_path: Path, encoder: str) -> None:
    views = {"semantic": {"encoder": encoder}}
    found = trained(cold, "llmesr", tmp_path / "run", epochs=4, **views)
    assert found.cold.how.startswith("by their text; inferred by ridge regression: collaborative (")
    assert metric(found, "cold items", "llmesr") > 5 / 12
    report = audit(tmp_path / "run")
    assert [c.artefact for c in report.checks if c.verdict != "pass"] == []
    assert "none of the 12 cold ones" in str([c.found for c in report.checks])


def test_e4srec_scores_them_by_inferred_rows(cold: Dataset, tmp_path: Path) -> None:
    found = trained(cold, "e4srec", tmp_path / "run")
    assert found.cold.how.startswith("by their text; inferred by ridge regression: ids (")
    assert 0 <= metric(found, "all items", "e4srec") <= 1
    run: Any = load_run(tmp_path / "run")
    assert len(run.item_ids) == len(run.system.ids) == 36


def test_runs_over_cold_items_are_compared_and_reproduced(cold: Dataset, tmp_path: Path) -> None:
    for name in ("popularity", "itemknn"):
        trained(cold, name, tmp_path / name)
    report = tmp_path / "report.html"
    compare([tmp_path / "popularity", tmp_path / "itemknn"], report=report)
    assert report.exists()
    found = reproduce(tmp_path / "itemknn")
    assert (found.verdict, found.ranks_apart) == ("bits", 0)
    again = read_ranks(tmp_path / "itemknn-again" / "ranks.parquet")
    assert int(again.cold.sum()) > 0


@pytest.mark.slow
def test_idgenrec_names_them(cold: Dataset, tmp_path: Path) -> None:
    found = trained(cold, "idgenrec", tmp_path / "run")
    assert found.cold.how == "by the names that it gives their texts"
    assert 0 <= metric(found, "cold items", "idgenrec") <= 1
    assert load_run(tmp_path / "run").system.sizes.num_items == 36


def test_missing_text_is_reported(tmp_path: Path) -> None:
    log, _ = shop_log()
    made = prepare(log, tmp_path / "data", options=PrepareOptions(min_count=1, cold_items=0.25))
    found = trained(made, "popularity", tmp_path / "run")
    assert found.cold.text is None
    assert {r.by for r in found.cold.rankings} == {"popularity", "random"}


def test_the_command_shows_the_table(
    cold: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, items = shop_log()
    log.write_csv(tmp_path / "log.csv")
    items.write_csv(tmp_path / "items.csv")
    arguments = ["prepare", str(tmp_path / "log.csv"), "--items", str(tmp_path / "items.csv")]
    arguments += [
        "--out",
        str(tmp_path / "data"),
        "--min-count",
        "1",
        "--cold-items",
        "0.25",
        "--json",
    ]
    assert command(arguments) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == cold.fingerprint
    train(cold, "popularity", out=tmp_path / "run")
    assert command(["evaluate", str(tmp_path / "run"), "--device", "cpu", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "12 cold items" in shown
    assert "text neighbours" in shown
    assert "new items" in shown


def test_cold_users_are_ranked_and_never_trained_on(tmp_path: Path) -> None:
    log, items = shop_log()
    options = PrepareOptions(min_count=1, cold_users=0.1)
    made = prepare(log, tmp_path / "data", items=items, options=options)
    valid, test = made.held_out("valid"), made.held_out("test")
    assert (len(valid.users), len(test.users)) == (6, 6)
    assert not set(valid.users.tolist()) & set(test.users.tolist())
    lengths = made.train.lengths
    held = torch.cat([valid.users, test.users])
    assert not lengths[held].any()
    whole = made.events.offsets.diff()
    assert int((lengths == whole).sum()) == 48
    assert (test.histories.lengths == whole[test.users] - 1).all()
    found = trained(made, "sasrec", tmp_path / "run", encoder=SMALL["encoder"])
    assert found.users == 6
    assert "users who are not in training" in found.statement
    assert audit(tmp_path / "run").passed


def test_what_does_not_fit_is_reported() -> None:
    with pytest.raises(ConfigError, match="cold_users needs split='leave-one-out'"):
        PrepareOptions.build({"cold_users": 0.1, "split": "temporal"})


def test_ranks_without_cold_items_have_no_such_column(tmp_path: Path) -> None:
    log, _ = shop_log()
    made = prepare(log, tmp_path / "data", options=PrepareOptions(min_count=1))
    found = trained(made, "popularity", tmp_path / "run")
    assert found.cold is None
    assert "cold" not in pq.read_schema(tmp_path / "run" / "ranks.parquet").names
    assert set(found.groups) == {"tail_item", "head_item", "tail_user", "head_user"}
