"""The score of the recommender that gave the IDs is added, and validation chooses the other's weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.systems.e4srec.system import BLENDS
from support.datasets import SMALL
from support.language_models import shared_tiny_llama

ITEMS, LENGTHS = torch.tensor([[3, 9, 27, 5], [8, 2, 0, 0]]), torch.tensor([4, 2])


def config(giver: Path, **changes: Any) -> dict[str, Any]:
    model = {"name": str(shared_tiny_llama()), "num_layers": 1}
    return {
        "epochs": 1,
        "batch_size": 16,
        "max_len": 8,
        "candidates": "ids",
        "llm": model,
        "ids": {"run": str(giver)},
        **changes,
    }


@pytest.fixture(scope="module")
def giver(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained SASRec."""
    path = tmp_path_factory.mktemp("giver") / "sasrec"
    train(dataset, "sasrec", out=path, config={**SMALL, "epochs": 3}, device="cpu")
    return path


@pytest.fixture(scope="module")
def run(dataset: Dataset, giver: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An E4SRec over its IDs."""
    path = tmp_path_factory.mktemp("e4srec") / "run"
    train(dataset, "e4srec", out=path, config=config(giver), device="cpu")
    return load_run(path)


def scores_of(run: Run) -> torch.Tensor:
    system: Any = run.system
    with torch.inference_mode():
        scores: torch.Tensor = system.scorer().score(ITEMS, LENGTHS)
    return scores


def test_without_the_language_model_it_scores_as_its_giver(run: Any, giver: Path) -> None:
    chosen = run.system.blend.clone()
    scores = {}
    for blend in (0.0, 1.0, 3.0):
        run.system.blend.fill_(blend)
        scores[blend] = scores_of(run)
    run.system.blend.copy_(chosen)
    # The IDs are stored in half precision.
    torch.testing.assert_close(scores[0.0], scores_of(load_run(giver)), rtol=5e-3, atol=5e-3)
    added = scores[1.0] - scores[0.0]
    assert float(added.std()) > 0.01
    torch.testing.assert_close(scores[3.0] - scores[0.0], 3 * added, rtol=1e-3, atol=1e-3)


def test_it_is_not_below_its_giver_on_validation(run: Any, giver: Path) -> None:
    # Rounding of the IDs may exchange items of nearly the same score.
    assert run.manifest.valid["ndcg@10"] >= load_run(giver).manifest.valid["ndcg@10"] - 1e-3
    assert any(abs(float(run.system.blend) - value) < 1e-3 for value in (*BLENDS, 0.5))


def test_the_giver_is_not_trained(run: Any, giver: Path) -> None:
    own, given = run.system.giver.state_dict(), load_run(giver).system.state_dict()
    assert all(torch.equal(own[name], given[name]) for name in given)
    trained = {name for name, value in run.system.named_parameters() if value.requires_grad}
    assert not any(name.startswith("giver.") for name in trained)


def test_the_columns_of_both_add_up_to_the_score(run: Any) -> None:
    scorer = run.system.scorer()
    with torch.inference_mode():
        queries = scorer.queries(ITEMS, LENGTHS)
        parts = [
            queries[:, columns] @ scorer.item_vectors[:, columns].T
            for columns in run.system.view_columns().values()
        ]
    torch.testing.assert_close(sum(parts), scores_of(run))


def test_the_form_of_the_paper_has_no_giver(dataset: Dataset, giver: Path, tmp_path: Path) -> None:
    alone = config(giver, add_giver=False)
    train(dataset, "e4srec", out=tmp_path / "alone", config=alone, device="cpu")
    system: Any = load_run(tmp_path / "alone").system
    assert system.giver is None
    assert system.view_columns() == {}
    assert not {"blend", "id_scale"} & set(system.state_dict())


def test_text_neighbours_may_give_the_ids_but_take_no_new_items(
    dataset: Dataset, tmp_path: Path
) -> None:
    train(dataset, "textknn", out=tmp_path / "textknn", device="cpu")
    train(dataset, "e4srec", out=tmp_path / "run", config=config(tmp_path / "textknn"))
    system: Any = load_run(tmp_path / "run").system
    assert system.giver.name == "textknn"
    with pytest.raises(ConfigError, match="add_giver=false"):
        system.rows_of(lambda: pytest.fail("not reached"))
