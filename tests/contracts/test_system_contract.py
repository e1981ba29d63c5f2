"""What every registered system owes, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError, DataError
from seqloom.core.phase import FixedShape
from seqloom.core.protocols import Scorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset, HeldOut
from seqloom.distributed.processes import ALONE
from seqloom.evaluation.ranking import rank_targets
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.systems.base import TrainingData
from seqloom.systems.registry import config_class, names, system_class

REPLAYED = ("sasrec", "gru4rec", "bert4rec", "bsarec", "llminit", "llmesr", "texttower", "e4srec")
"""Systems with a phase whose steps are recorded on a GPU."""
HISTORIES = Sequences.from_lists([[1, 2, 3], [7], [4, 9, 1, 33, 12], list(range(1, 21)), [40]])


@pytest.fixture
def run(trained: Any) -> Run:
    return load_run(trained)


def scores(run: Run, histories: Sequences) -> torch.Tensor:
    batch = histories.pad(run.system.max_len)
    with torch.inference_mode():
        return run.scorer.score(batch.items, batch.lengths)


def test_scores_are_finite_one_column_an_item(run: Run, dataset: Dataset) -> None:
    actual = scores(run, HISTORIES)
    assert isinstance(run.scorer, Scorer)
    assert actual.shape == (5, dataset.num_items)
    assert torch.isfinite(actual).all()


def test_a_batch_scores_as_its_rows_do(run: Run) -> None:
    together = scores(run, HISTORIES)
    for row in range(len(HISTORIES)):
        alone = scores(run, HISTORIES.select(torch.tensor([row])))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_more_padding_changes_nothing(run: Run) -> None:
    batch = HISTORIES.pad(6)
    wider = torch.nn.functional.pad(batch.items, (0, 2))
    with torch.inference_mode():
        first = run.scorer.score(batch.items, batch.lengths)
        second = run.scorer.score(wider, batch.lengths)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_saving_and_loading_keeps_the_scores(run: Run, trained: Any) -> None:
    assert torch.equal(scores(run, HISTORIES), scores(load_run(trained), HISTORIES))


def test_same_seed_same_weights_other_seed_others(
    trained: Any, dataset: Dataset, configured: Callable[..., Any], tmp_path: Path
) -> None:
    system = trained.name
    config = configured(system)
    first = load_run(trained).system.state_dict()
    train(dataset, system, out=tmp_path / "again", config=config, device="cpu")
    second = load_run(tmp_path / "again").system.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    if config:
        train(dataset, system, out=tmp_path / "other", config={**config, "seed": 7}, device="cpu")
        other = load_run(tmp_path / "other").system.state_dict()
        assert any(not torch.equal(first[name], other[name]) for name in first)


def test_config_round_trips(trained: Any) -> None:
    import yaml

    cls = config_class(trained.name)
    text = (trained / "config.yaml").read_text()
    config = cls.build(yaml.safe_load(text))
    assert config.to_yaml() == text
    assert config == load_run(trained).system.config


def test_recommendations_are_new_distinct_real_items(run: Run, dataset: Dataset) -> None:
    history = dataset.item_ids[:5]
    (actual,) = recommend(run, histories=[history], k=10)
    ids = [item.item_id for item in actual.items]
    assert len(ids) == len(set(ids)) == 10
    assert set(ids) <= set(dataset.item_ids) - set(history)
    ordered = [item.score for item in actual.items]
    assert ordered == sorted(ordered, reverse=True)


def test_k_above_the_catalogue_gives_all_unseen_items(run: Run, dataset: Dataset) -> None:
    (actual,) = recommend(run, histories=[dataset.item_ids[:5]], k=1000)
    assert len(actual.items) == dataset.num_items - 5


def test_unknown_items_are_named_and_left_out(run: Run, dataset: Dataset) -> None:
    known = dataset.item_ids[:2]
    (with_unknown,) = recommend(run, histories=[[known[0], "no such item", known[1]]], k=3)
    (without,) = recommend(run, histories=[known], k=3)
    assert with_unknown.unknown == ["no such item"]
    assert with_unknown.items == without.items
    with pytest.raises(DataError, match="holds no item of the catalogue"):
        recommend(run, histories=[["no such item"]])


def test_an_empty_history_gets_what_is_popular(run: Run, dataset: Dataset) -> None:
    counts, keys = dataset.popularity[1:].tolist(), dataset.tie_keys.tolist()
    order = sorted(range(len(counts)), key=lambda column: (-counts[column], keys[column]))
    alone, beside = recommend(run, histories=[[], dataset.item_ids[:2]], k=4)
    expected = [dataset.item_ids[number] for number in order[:4]]
    assert [item.item_id for item in alone.items] == expected
    (without,) = recommend(run, histories=[dataset.item_ids[:2]], k=4)
    assert [item.item_id for item in beside.items] == [item.item_id for item in without.items]


def test_new_users_are_ranked_by_popularity(run: Run, dataset: Dataset) -> None:
    counts = dataset.popularity[1:]
    order = counts.argsort(descending=True, stable=True)
    places = torch.tensor([0, 3, 7])
    targets = order[places] + 1
    held_out = HeldOut(torch.arange(3), Sequences.from_lists([[], [], []]), targets)
    options: dict[str, Any] = {"popularity": dataset.popularity[1:], "max_len": run.system.max_len}
    target = counts[order[places]]
    expected = (counts >= target[:, None]).sum(1)  # ties count against the target
    assert torch.equal(rank_targets(run.scorer, held_out, **options).ranks, expected)
    rivals = order[torch.tensor([[1, 2], [0, 1], [20, 6]])]
    among = rank_targets(run.scorer, held_out, negatives=rivals + 1, **options)
    assert torch.equal(among.ranks, 1 + (counts[rivals] >= target[:, None]).sum(1))
    assert len(set(among.ranks.tolist())) > 1


def test_stored_users_get_the_answer_of_their_history(run: Run, dataset: Dataset) -> None:
    events = dataset.events
    history = [dataset.item_ids[i - 1] for i in events.items[: int(events.offsets[1])].tolist()]
    (by_user,) = recommend(run, users=[dataset.user_ids[0]], k=5)
    (by_history,) = recommend(run, histories=[history], k=5)
    assert by_user.user == dataset.user_ids[0]
    assert by_user.items == by_history.items
    with pytest.raises(DataError, match="not in the data set"):
        recommend(run, users=["nobody"])


def test_every_name_resolves_and_others_are_refused() -> None:
    for name in names():
        assert system_class(name).name == name
    with pytest.raises(ConfigError, match="allowed: popularity"):
        system_class("sasrek")


def test_a_batch_of_empty_histories_is_scored(run: Run, dataset: Dataset) -> None:
    actual = scores(run, Sequences.from_lists([[], []]))
    assert actual.shape == (2, dataset.num_items)
    assert torch.isfinite(actual).all()


def test_a_request_without_history_is_timed(run: Run) -> None:
    from seqloom.pipelines.compare.latency import measure_latency

    assert measure_latency(run, Sequences.from_lists([[]])).median_ms > 0


def test_a_loss_that_can_be_replayed_reads_tensors_alone(run: Run, dataset: Dataset) -> None:
    """Without what a batch keeps on the host, and with padded targets, it is the same up to rounding."""
    system: Any = run.system
    if run.path.name in ("idgenrec", "ensemble"):
        pytest.skip("its phases need more than the data set, and none of them replays")
    replayed = 0
    for phase in system.phases(TrainingData(dataset)):
        batch = phase.steps(0)[0] if getattr(phase, "replays", False) else None
        if not isinstance(batch, FixedShape):
            continue
        phase.module.eval()
        poisoned: Any = {"rows": None, "predicts_last": None, "num_targets": 0}
        padded: Any = replace(batch.padded(), **poisoned)  # type: ignore[type-var]
        padded = padded.with_tensors([tensor.clone() for tensor in padded.tensors()])
        expected, actual = (ALONE.add_up(phase.loss(each))["loss"] for each in (batch, padded))
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
        replayed += 1
    assert replayed or run.path.name not in REPLAYED
