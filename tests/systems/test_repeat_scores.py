"""The term of items that a history holds, fitted to a share of repeats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqloom.data.store import Dataset
from seqloom.nn.repeats import RepeatTerm
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import TrainingData
from seqloom.systems.ensemble.fitting import ranking_ndcg
from seqloom.systems.repeat_scores import RepeatScorer, fit_repeats, repeat_shares
from support.datasets import looping_dataset, small_config, tiny_dataset

NEW = [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6], [3, 4, 5, 6, 1], [4, 5, 6, 1, 2], [5, 6, 1, 2, 3]]
AGAIN = [[1, 2, 1, 4, 5], [2, 3, 3, 5, 6], [3, 4, 5, 6, 1], [4, 5, 6, 1, 2], [5, 6, 1, 2, 3]]


class Plain:
    """Scores that depend on the history's last item alone."""

    num_items = 6

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, 6]."""
        last = items.gather(1, (lengths - 1)[:, None])
        return (torch.arange(6)[None] * 0.37 - 0.61 * last).sin() * 2


def expected_repeats(data: Dataset, term: RepeatTerm) -> float:
    """The mean share that the softmax of the scores puts on items of the training histories."""
    batch = data.train.pad(None)
    scores = RepeatScorer(Plain(), term).score(batch.items, batch.lengths).double()
    shares = []
    for row, history in zip(scores.softmax(1), batch.items.tolist(), strict=True):
        shares.append(sum(float(row[item - 1]) for item in set(history) if item))
    return sum(shares) / len(shares)


@pytest.mark.parametrize("before", [0.0, -0.4, 0.7])
def test_repeats_are_expected_as_often_as_they_occur(before: float, tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", AGAIN)
    assert data.repeat_share > 0
    term = RepeatTerm()
    with torch.no_grad():
        term.recency.add_(before)
    for share in (data.repeat_share, 0.6):
        fit_repeats(term, RepeatScorer(Plain(), term), TrainingData(data), None, share)
        assert expected_repeats(data, term) == pytest.approx(share, abs=1e-5)


def test_without_a_repeat_in_training_no_list_holds_an_item_again(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", NEW)
    assert data.repeat_share == 0
    term = RepeatTerm()
    fit_repeats(term, RepeatScorer(Plain(), term), TrainingData(data), None, data.repeat_share)
    assert expected_repeats(data, term) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    generator = torch.Generator().manual_seed(3)
    rows = [(torch.randperm(30, generator=generator)[:7] + 1).tolist() for _ in range(40)]
    return tiny_dataset(tmp_path_factory.mktemp("repeats") / "data", rows)


def trained(data: Dataset, system: str, out: Path, **config: Any) -> Path:
    train(data, system, out=out, config={**small_config(system), **config}, device="cpu")
    return out


def test_an_ensemble_ranks_unmasked_as_masked_where_nothing_repeats(
    data: Dataset, tmp_path: Path
) -> None:
    runs = [trained(data, "sasrec", tmp_path / "a"), trained(data, "itemknn", tmp_path / "b")]
    config = {"runs": [str(run) for run in runs]}
    for repeat in ("learned", "none"):
        train(data, "ensemble", out=tmp_path / repeat, config={**config, "repeat": repeat})
    learned, none = (
        {masked: evaluate(tmp_path / repeat, mask_seen=masked).metrics for masked in (True, False)}
        for repeat in ("learned", "none")
    )
    assert learned[False]["mrr"] == learned[True]["mrr"]
    assert none[False]["mrr"] < none[True]["mrr"]
    assert learned[True] == none[True]


def test_an_ensemble_keeps_its_term(data: Dataset, tmp_path: Path) -> None:
    runs = [trained(data, "sasrec", tmp_path / "a"), trained(data, "itemknn", tmp_path / "b")]
    config = {"runs": [str(run) for run in runs], "repeat": "learned"}
    train(data, "ensemble", out=tmp_path / "both", config=config)
    system: Any = load_run(tmp_path / "both").system
    assert float(system.repeats.recency.detach().max()) < -100


def test_views_that_learn_apart_have_a_term_for_their_sum(tmp_path: Path) -> None:
    config = {"repeat": "learned", "encoder": {"hidden_size": 16, "max_len": 20}}
    run = trained(looping_dataset(tmp_path / "d"), "llmesr", tmp_path / "run", **config)
    kept, masked = (evaluate(run, mask_seen=on).metrics for on in (False, True))
    assert kept["mrr"] == masked["mrr"]
    manifest = load_run(run).manifest
    assert manifest.best_phase == "repeats"
    assert manifest.valid["ndcg@10"] > 0


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Training repeats one event in ten, of the held-out targets four in five."""
    draw = torch.Generator().manual_seed(5)
    rows = []
    for user in range(60):
        row = (torch.randperm(30, generator=draw)[:8] + 1).tolist()
        if user % 2:
            row[5] = row[1]
        new = next(item for item in range(1, 31) if item not in row)
        rows.append([*row, new if user % 5 == 0 else row[0], row[0]])
    return tiny_dataset(tmp_path_factory.mktemp("visits") / "data", rows).deciding(False)


def test_the_shares_are_those_of_training_and_where_it_can_tell_of_validation(
    visits: Dataset,
) -> None:
    shares = repeat_shares(TrainingData(visits))
    assert shares == (visits.repeat_share, 0.8)
    assert 0 < visits.repeat_share < 0.2
    assert repeat_shares(TrainingData(visits.deciding(True))) == (visits.repeat_share,)


def test_validation_chooses_how_often_an_ensemble_expects_repeats(
    visits: Dataset, tmp_path: Path
) -> None:
    """The training part alone would say that targets hardly repeat, and rank all of them low."""
    runs = [trained(visits, "sasrec", tmp_path / "a"), trained(visits, "itemknn", tmp_path / "b")]
    config = {"runs": [str(run) for run in runs], "repeat": "learned"}
    train(visits, "ensemble", out=tmp_path / "both", config=config)
    run = load_run(tmp_path / "both")
    system: Any = run.system
    chosen = ranking_ndcg(system.scorer(), visits.held_out("valid"), None, torch.device("cpu"))
    evaluated = evaluate(run, on="valid", mask_seen=False, dataset=visits.path).metrics["ndcg@10"]
    assert chosen == pytest.approx(evaluated, abs=1e-6)
    for share in (visits.repeat_share, 0.8):
        with torch.no_grad():
            fit_repeats(system.repeats, system.scorer(), TrainingData(visits), None, share)
        other = ranking_ndcg(system.scorer(), visits.held_out("valid"), None, torch.device("cpu"))
        assert other <= chosen + 1e-9
        if share < 0.8:
            assert other < chosen / 2


def test_validation_chooses_the_term_of_views_that_learn_apart(
    visits: Dataset, tmp_path: Path
) -> None:
    from seqloom.pipelines.embed.embed import embed
    from seqloom.pipelines.embed.options import EmbedOptions

    embed(visits, EmbedOptions(encoder="hash", users="none"))
    config = {"repeat": "learned", "encoder": {"hidden_size": 16, "max_len": 20}}
    run = trained(visits, "llmesr", tmp_path / "run", **config)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    values: dict[str, list[float]] = {row["phase"]: [] for row in rows}
    for row in rows:
        values[row["phase"]].append(row["valid"]["ndcg@10"])
    assert len(values["repeats"]) == 2
    everything = [value for name in ("train", "blend", "repeats") for value in values[name]]
    assert load_run(run).manifest.valid["ndcg@10"] == max(everything)


def test_an_ensemble_is_fitted_where_every_target_repeats(tmp_path: Path) -> None:
    rows = [[1, 2, 3, 1, 2], [2, 3, 4, 2, 3], [3, 4, 5, 3, 4], [4, 5, 1, 4, 5]] * 2
    data = tiny_dataset(tmp_path / "data", rows).deciding(False)
    runs = [trained(data, "sasrec", tmp_path / "a"), trained(data, "itemknn", tmp_path / "b")]
    config = {"runs": [str(run) for run in runs], "repeat": "learned"}
    train(data, "ensemble", out=tmp_path / "both", config=config)
    system: Any = load_run(tmp_path / "both").system
    assert float(system.weights.sum()) > 0
    assert not system.repeats.recency.any()
