"""E4SRec's scorer with recorded reading of histories, by a recorder for a CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.e4srec import scorer
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.scorer import E4SRecScorer
from seqloom.systems.e4srec.system import E4SRec
from support.language_models import save_tiny_bert, shared_tiny_llama
from support.recorders import SameTensors


def build(dataset: Dataset, **changes: Any) -> E4SRec:
    """A system whose adapter changes something."""
    keys = {"max_len": 12, "candidates": "ids", "llm": {"name": str(shared_tiny_llama())}}
    config = E4SRecConfig.build({**keys, **changes})
    torch.manual_seed(0)
    system = E4SRec(config, Sizes(num_items=dataset.num_items, id_size=16))
    system.initialise(TrainingData(dataset, ids=torch.randn(dataset.num_items, 16)))
    with torch.no_grad():
        for value in system.reader.adapter.weights.values():
            value.normal_(std=0.2)
    return system.eval()


def batches(num_items: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of few shapes once they are padded, of many before; one has an empty history."""
    draw = torch.Generator().manual_seed(3)
    made = []
    for count in (1, 3, 5, 8, 2, 7, 4, 6):
        lengths = torch.randint(1, 13, (count,), generator=draw).tolist()
        rows = [(torch.randint(num_items, (n,), generator=draw) + 1).tolist() for n in lengths]
        rows[0] = [] if count == 7 else rows[0]
        batch = Sequences.from_lists(rows).pad()
        made.append((batch.items, batch.lengths))
    return made


def new_scorer(system: E4SRec, recorder: SameTensors | None) -> E4SRecScorer:
    assert system.head is not None
    return E4SRecScorer(system, system.ids, system.head.detach(), recorder)


@pytest.mark.parametrize("mode", ["causal", "prompt"])
def test_recorded_reading_has_the_bits_of_reading_the_same_shapes_one_by_one(
    dataset: Dataset, mode: str
) -> None:
    system, recorder = build(dataset, mode=mode), SameTensors()
    plain, recorded = new_scorer(system, None), new_scorer(system, recorder)
    unrecorded = new_scorer(system, SameTensors())
    assert unrecorded._recorded is not None
    unrecorded._recorded._left = 0
    with torch.inference_mode():
        for items, lengths in batches(dataset.num_items):
            actual = recorded.score(items.clone(), lengths.clone())
            assert torch.equal(actual, unrecorded.score(items, lengths))
            torch.testing.assert_close(actual, plain.score(items, lengths), rtol=1e-4, atol=1e-4)
    assert recorder.recorded >= 1
    assert recorder.replayed > recorder.recorded


def test_large_batches_and_other_models_are_not_recorded(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = save_tiny_bert(tmp_path_factory.mktemp("bert"))
    bert = {"name": str(folder), "kind": "bidirectional"}
    other = new_scorer(build(dataset, mode="prompt", llm=bert), SameTensors())
    assert other._recorded is None
    monkeypatch.setattr(scorer, "_RECORDED_POSITIONS", 0)
    recorder = SameTensors()
    scores = new_scorer(build(dataset), recorder)
    items, lengths = batches(dataset.num_items)[1]
    for _ in range(3):
        scores.score(items, lengths)
    assert recorder.rehearsed == recorder.recorded == 0
