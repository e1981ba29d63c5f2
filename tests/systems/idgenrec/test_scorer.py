"""IDGenRec's beam scorer with recorded passes, by a recorder for a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.data.store import Dataset
from seqloom.llm.generation import fixed_decoding
from seqloom.llm.generation.fixed_decoding import RoomError
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.idgenrec import scorer as scorers
from seqloom.systems.idgenrec.system import IDGenRec
from support.datasets import SMALL_IDGENREC, tiny_dataset
from support.recorders import SameTensors

WORDS = ["red", "blue", "green", "hand", "hair", "nail", "soap", "cream", "brush", "oil"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    titles = [f"{WORDS[i % 3]} {WORDS[3 + i % 4]} {WORDS[6 + i % 4]}" for i in range(25)]
    histories = [[(u + 3 * n) % 25 + 1 for n in range(4 + u % 5)] for u in range(30)]
    folder: Path = tmp_path_factory.mktemp("data")
    return tiny_dataset(folder / "d", histories, titles)


def build(data: Dataset, source: str, **changes: Any) -> IDGenRec:
    recommender = {**SMALL_IDGENREC["recommender"], "source": source}
    config = {**SMALL_IDGENREC, "recommender": recommender, **changes}
    torch.manual_seed(0)
    system = IDGenRec(IDGenRec.config_class.build(config), Sizes(num_items=25))
    system.initialise(TrainingData(data))
    system.make_ids(0)
    return system.eval()


def lists(scorer: Any, data: Dataset) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Lists of one user after the other, and of three at once."""
    histories = data.held_out("test").histories
    made = []
    for users in (*([user] for user in range(12)), [3, 4, 5], [6, 7, 8]):
        batch = histories.select(torch.tensor(users)).pad()
        made.append(scorer.best(batch.items, batch.lengths, 5, batch.items))
    return made


def with_recorder(system: IDGenRec, recorder: SameTensors, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(scorers, "build_recorder", lambda device, *, strict: recorder)
        return system.scorer()


@pytest.mark.parametrize("likelihood", ["text", "catalogue"])
def test_lists_by_recorded_passes_are_those_of_a_cache_that_grows(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, likelihood: str
) -> None:
    system, recorder = build(data, "llama", likelihood=likelihood), SameTensors()
    recorded = with_recorder(system, recorder, monkeypatch)
    for (items, scores), (others, expected) in zip(
        lists(recorded, data), lists(system.scorer(), data), strict=True
    ):
        assert torch.equal(items, others)
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    assert recorder.replayed > recorder.recorded > 0


def test_a_search_without_room_starts_again_in_a_cache_that_grows(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = build(data, "llama", likelihood="text")
    recorded = with_recorder(system, SameTensors(), monkeypatch)
    memory, refused = recorded._decoder._memory, []
    step = fixed_decoding._FixedState.step

    def noted(*args: Any) -> torch.Tensor:
        try:
            return step(*args)
        except RoomError:
            refused.append(1)
            raise

    monkeypatch.setattr(fixed_decoding, "_PLACES_STEP", 1)
    monkeypatch.setattr(fixed_decoding._FixedState, "step", noted)
    monkeypatch.setattr(recorded._decoder, "_memory", lambda *shape: memory(*shape[:2], 5))
    for (items, _), (others, _) in zip(
        lists(recorded, data), lists(system.scorer(), data), strict=True
    ):
        assert torch.equal(items, others)
    assert refused


def test_an_encoder_decoder_is_not_recorded(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = with_recorder(build(data, "t5"), SameTensors(), monkeypatch)
    assert scorer._decoder is None
