"""A semantic view by recency: its scores, what trains it, and how it joins the other view."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.core.config import apply_overrides
from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.distributed.processes import ALONE
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.llmesr.config import LLMESRConfig
from seqloom.systems.llmesr.recency_view import RecencyView
from seqloom.systems.llmesr.system import LLMESR
from seqloom.systems.tail_blend import SCORE_BLENDS
from seqloom.systems.textknn import TextKNN, TextKNNConfig
from seqloom.systems.view_phase import TEXT_ALONE
from seqloom.text.store import load_embeddings
from support.datasets import SMALL

KINDS = ["sasrec", "gru4rec", "bert4rec"]
WIDTH = SMALL["encoder"]["hidden_size"]
ITEMS = torch.tensor([[3, 9, 27, 5], [8, 2, 0, 0]])
LENGTHS = torch.tensor([4, 2])


def build(dataset: Dataset, *overrides: str) -> Any:
    config = LLMESRConfig.build(apply_overrides(SMALL, ["semantic.encoder=recency", *overrides]))
    text_size = load_embeddings(dataset).width
    torch.manual_seed(0)
    system = LLMESR(config, Sizes(num_items=dataset.num_items, text_size=text_size))
    system.initialise(TrainingData(dataset))
    return system


def scores_of(system: LLMESR | TextKNN) -> torch.Tensor:
    with torch.inference_mode():
        return system.scorer().score(ITEMS, LENGTHS)


def test_the_score_is_the_weighted_sum_of_cosines() -> None:
    view = RecencyView(num_items=5, text_size=3, max_len=4)
    text = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    view.initialise(text, whitening=0.0)
    with torch.no_grad():
        view.recency.log_weights.copy_(torch.tensor([1.0, 0.5, 0.25, 0.125]).log())
        view.log_scale.fill_(torch.tensor(3.0).log())
    rows = view().detach()[torch.tensor([[0, 1, 3]])]
    real = torch.tensor([[True, True, False]])
    states = view.eval().states(rows, real)
    centred = text - text.mean(0)
    unit = centred / centred.norm(dim=1, keepdim=True)
    expected = 3 * (unit[1] + 0.5 * unit[0])
    torch.testing.assert_close(states[0, 1], expected)
    torch.testing.assert_close(states[0, 2], states[0, 1])  # what is not real does not age


def test_it_ranks_as_text_neighbours_where_its_weights_are_their_decay(dataset: Dataset) -> None:
    system = build(dataset, "views=semantic")
    neighbours = TextKNN(
        TextKNNConfig(decay=0.6), Sizes(num_items=dataset.num_items, text_size=system.vector_size)
    )
    neighbours.initialise(TrainingData(dataset))
    scores = scores_of(system)
    torch.testing.assert_close(scores / 10, scores_of(neighbours))


@pytest.mark.parametrize("kind", KINDS)
def test_the_views_are_added_and_weighed_by_the_blend(kind: str, dataset: Dataset) -> None:
    system = build(dataset, f"encoder.kind={kind}")
    widths = {name: part.stop - part.start for name, part in system.view_columns().items()}
    assert widths == {"collaborative": WIDTH, "semantic": load_embeddings(dataset).width}
    scores = {}
    for blend in (0.0, 1.0, 2.0):
        system.blend.fill_(blend)
        scores[blend] = scores_of(system)
    torch.testing.assert_close(scores[2.0] - scores[1.0], scores[1.0] - scores[0.0])
    text = scores_of(build(dataset, "views=semantic"))
    torch.testing.assert_close(scores[1.0] - scores[0.0], text, rtol=1e-4, atol=1e-4)
    alone = build(dataset, f"encoder.kind={kind}", "views=collaborative")
    alone.load_state_dict(
        {
            name: value
            for name, value in system.state_dict().items()
            if not name.startswith(("semantic", "blend"))
        }
    )
    torch.testing.assert_close(scores[0.0], scores_of(alone))


def test_each_view_learns_by_itself(dataset: Dataset) -> None:
    system = build(dataset)
    text, ranking, blend = system.phases(TrainingData(dataset))
    ALONE.add_up(text.loss(text.steps(0)[0]))["loss"].backward()
    trained = {name for name, value in system.named_parameters() if value.grad is not None}
    assert trained == {"semantic.recency.log_weights", "semantic.log_scale"}
    system.zero_grad()
    ALONE.add_up(ranking.loss(ranking.steps(0)[0]))["loss"].backward()
    trained = {name for name, value in system.named_parameters() if value.grad is not None}
    assert "collaborative" in trained
    assert not any(name.startswith("semantic") for name in trained)
    assert blend.optimisation.epochs == len(SCORE_BLENDS)
    assert SCORE_BLENDS[0] == 0
    for epoch, value in enumerate(SCORE_BLENDS):
        assert len(blend.steps(epoch)) == 0
        assert float(system.blend) == pytest.approx(value)


def test_a_tower_is_validated_alone_and_then_with_the_other_view(dataset: Dataset) -> None:
    system = build(dataset, "semantic.encoder=tower", "semantic.blend=0.7")
    text, ranking, _ = system.phases(TrainingData(dataset))
    batch = text.steps(0)[0]
    tower = system.semantic
    with torch.inference_mode():
        alone = tower.eval().queries(ITEMS, LENGTHS, tower.item_vectors()) @ tower.item_vectors().T
    torch.testing.assert_close(scores_of(system), alone)
    ALONE.add_up(text.loss(batch))["loss"].backward()
    trained = {name for name, value in system.named_parameters() if value.grad is not None}
    assert all(name.startswith("semantic.") for name in trained)
    assert "semantic.words.vectors" in trained
    ranking.steps(0)
    assert float(system.blend) == pytest.approx(0.7)


def test_a_view_that_is_left_out_uses_no_language_model(dataset: Dataset) -> None:
    """The item table starts from a language model's text; the words of the tower start at random."""
    system = build(dataset, "semantic.encoder=tower", "semantic.tower.words.start=random")
    for blend, used in ((0.0, True), (0.5, True), (TEXT_ALONE, False)):
        system.blend.fill_(blend)
        assert system.uses_language_model == used
        assert system.reads_text
    bare = build(dataset, "semantic.encoder=tower", "collaborative_start=random")
    for blend in (0.0, 0.5, TEXT_ALONE):
        bare.blend.fill_(blend)
        assert bare.reads_text == (blend > 0)


def test_the_text_is_never_trained_and_weights_are_few(dataset: Dataset) -> None:
    system = build(dataset)
    assert system.fixed_entries == {"semantic.text", "semantic.mean", "semantic.matrix"}
    names = {name for name, _ in system.semantic.named_parameters()}
    assert names == {"recency.log_weights", "log_scale"}


def test_distillation_compares_states_of_the_collaborative_view(dataset: Dataset) -> None:
    system = build(dataset, "distillation.alpha=0.1", "distillation.num_similar=3")
    _, ranking, _ = system.phases(TrainingData(dataset))
    parts = ranking.loss(ranking.steps(0)[0])
    assert set(parts) == {"rank", "distillation"}
    assert system.distillation.bank.shape == (dataset.num_users, WIDTH)


def test_texts_that_are_all_alike_are_refused() -> None:
    view = RecencyView(num_items=4, text_size=3, max_len=4)
    with pytest.raises(ConfigError, match="same text vector"):
        view.initialise(torch.ones(4, 3), whitening=0.75)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_answers_as_it_does_alone_whatever_the_other_encoder(
    kind: str, dataset: Dataset
) -> None:
    keys = [f"encoder.kind={kind}", "encoder.max_len=60", "semantic.encoder=tower"]
    system = build(dataset, *keys).eval()
    system.blend.fill_(1.0)
    tower, items = system.semantic, torch.arange(60).remainder(39).add(1)[None]
    lengths = torch.tensor([60])
    with torch.inference_mode():
        queries = system.queries(items, lengths, system.item_vectors())
        alone = tower.queries(items, lengths, tower.item_vectors())
    torch.testing.assert_close(queries[:, system.view_columns()["semantic"]], alone)


@pytest.mark.parametrize(
    ("key", "advice"), [("encoder.kind=bert4rec", "kind=sasrec"), ("repeat=learned", "of the run")]
)
def test_what_a_tower_cannot_do_within_is_refused(key: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        LLMESRConfig.build(apply_overrides(SMALL, [f"semantic.tower.{key}"]))
