"""What a recommender learns with objective=catalogue, against slow loops and the scores it ranks by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.idgenrec import phases
from seqloom.systems.idgenrec.branches import Branches
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.phases import RecommenderPhase
from seqloom.systems.idgenrec.system import IDGenRec
from support.datasets import SMALL_IDGENREC, walkers


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return walkers(tmp_path_factory.mktemp("data") / "d")


def config(**changes: Any) -> dict[str, Any]:
    return {**SMALL_IDGENREC, "rounds": 1, "objective": "catalogue", **changes}


def build(data: Dataset, **changes: Any) -> IDGenRec:
    system = IDGenRec(IDGenRecConfig.build(config(**changes)), Sizes(num_items=data.num_items))
    torch.manual_seed(0)
    system.initialise(TrainingData(data))
    system.make_ids(0)
    return system


def random_table(seed: int) -> torch.Tensor:
    """IDs of one to four tokens and an end mark, below a row of padding. Shapes: -> [N + 1, T]."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 5, (80,), generator=draw).tolist()
    rows = {(*torch.randint(1, 5, (n,), generator=draw).tolist(), 0) for n in lengths}
    width = max(map(len, rows))
    padded = [[*row, *[PAD] * (width - len(row))] for row in sorted(rows, key=hash)]
    return torch.tensor([[PAD] * width, *padded])


@pytest.mark.parametrize("seed", range(3))
def test_every_token_stands_among_those_that_ids_go_on_with(seed: int) -> None:
    table = random_table(seed)
    branches = Branches.of(table)
    rows = [tuple(t for t in row if t != PAD) for row in table.tolist()]
    tree = branches.tree
    for item, row in enumerate(rows):
        assert (branches.nodes[item, len(row) :] == -1).all()
        for t, token in enumerate(row):
            node = int(branches.nodes[item, t])
            first = int(tree.first_child[node])
            siblings = tree.token[first : first + int(tree.num_children[node])].tolist()
            assert siblings == sorted({r[t] for r in rows if len(r) > t and r[:t] == row[:t]})
            assert siblings[int(branches.places[item, t])] == token


def test_the_loss_is_a_softmax_over_siblings() -> None:
    table = random_table(5)
    branches = Branches.of(table)
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
    nodes, places = branches.of_items(torch.tensor([[3, 0], [7, 1]]))
    assert len(nodes) == int((table[[3, 7, 1]] != PAD).sum())
    found = branches.loss(logits.expand(len(nodes), -1), nodes, places)
    total, choices = 0.0, 0
    for node, place in zip(nodes.tolist(), places.tolist(), strict=True):
        first, count = int(branches.tree.first_child[node]), int(branches.tree.num_children[node])
        scores = logits[0, branches.tree.token[first : first + count]]
        total -= float(scores.log_softmax(0)[place])
        choices += count > 1
    assert int(found.count) == choices > 0
    assert float(found.value) == pytest.approx(total / choices, rel=1e-5)


@pytest.mark.parametrize("samples", ["windows", "prefixes"])
def test_the_loss_is_that_of_the_scores_it_ranks_by(
    data: Dataset, samples: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = build(data, samples=samples, decoding="exact", template=0)
    phase = RecommenderPhase(system, data.train, [data.num_users], 0)
    steps = phase.steps(0)
    # The prompt that is trained is the one that ranks.
    monkeypatch.setattr(
        phases, "draw_templates", lambda _, batch, __: torch.zeros(len(batch)).long()
    )
    batch = steps[0]
    system.recommender.eval()
    with torch.inference_mode():
        found = phase.loss(batch)["loss"]
        scorer = system.scorer()
        total, choices = 0.0, 0
        for row in range(len(batch)):
            length = int(batch.inputs.lengths[row])
            ends = range(1, length + 1) if samples == "windows" else [length]
            for end in ends:
                history = batch.inputs.items[row : row + 1, :end]
                target = int(batch.targets[row, end - 1])
                scores = scorer.score(history, torch.tensor([end]))
                total -= float(scores[0, target - 1])
                branches = Branches.of(system.table)
                nodes, _ = branches.of_items(torch.tensor([target]))
                choices += int((branches.tree.num_children[nodes] > 1).sum())
    assert int(found.count) == choices
    assert float(found.value) == pytest.approx(total / choices, rel=1e-4)


def test_a_catalogue_of_one_item_leaves_nothing_to_choose() -> None:
    branches = Branches.of(torch.tensor([[PAD, PAD], [3, 0]]))
    nodes, places = branches.of_items(torch.tensor([1]))
    logits = torch.randn(2, 5, requires_grad=True)
    loss = branches.loss(logits, nodes, places)
    loss.value.backward()
    assert float(loss.value.detach()) == 0
    assert int(loss.count) == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    empty = branches.loss(logits[:0], nodes[:0], places[:0])
    assert float(empty.value.detach()) == 0


def test_it_trains_and_learns_to_rank(data: Dataset, tmp_path: Path) -> None:
    train(data, "idgenrec", out=tmp_path / "run", config=config(epochs=6), device="cpu")
    losses = [
        row["train"]["loss"]
        for row in load_run(tmp_path / "run").log
        if "recommender" in row["phase"]
    ]
    assert losses[-1] < losses[0]


def test_alternate_training_goes_on_with_the_same_objective(data: Dataset, tmp_path: Path) -> None:
    changes = config(rounds=2, epochs=1, generation={"tagging_epochs": 1, "epochs": 1})
    train(data, "idgenrec", out=tmp_path / "run", config=changes, device="cpu")
    names = [row["phase"] for row in load_run(tmp_path / "run").log]
    assert names == ["tagging", "recommender-1", "generator-1", "recommender-2"]


def test_a_likelihood_of_texts_needs_the_objective_of_texts() -> None:
    with pytest.raises(ConfigError, match="likelihood=catalogue, or objective=text"):
        IDGenRecConfig.build({"objective": "catalogue", "likelihood": "text"})
