"""Where later phases are worse, a system ends with the earlier one and all that belongs to it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.data.store import Dataset
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.idgenrec.system import IDGenRec
from seqloom.training.checkpoint import Checkpoints
from support.datasets import SMALL, SMALL_IDGENREC, looping_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return looping_dataset(tmp_path_factory.mktemp("data") / "d")


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[Any, dict[Any, Any]]:
    """Every validation is worse than the one before; the state of each phase's best is noted."""
    falling = itertools.count(1)
    worse = lambda ranks, names: {name: 1 / next(falling) for name in names}  # noqa: E731
    monkeypatch.setattr("seqloom.pipelines.train.fit_run.rank_metrics", worse)
    states = {}
    save = Checkpoints.save_best

    def note(self: Any, model: Any, phase: Any) -> None:
        save(self, model, phase)
        states[phase] = {name: value.clone() for name, value in self._state(model).items()}

    monkeypatch.setattr(Checkpoints, "save_best", note)
    return states


CONFIGS = {
    "melt": {**SMALL, "joint": {"epochs": 2}},
    "cities": {**SMALL, "inference": {"epochs": 1, "num_heads": 2, "tail_below": None}},
    "idgenrec": {**SMALL_IDGENREC, "generation": {"learning_rate": 0.05, "max_history": 2}},
}


@pytest.mark.parametrize("system", CONFIGS)
def test_the_earlier_phase_is_kept_whole(
    dataset: Dataset, tmp_path: Path, saved: dict[Any, dict[Any, Any]], system: str
) -> None:
    config = CONFIGS[system]
    summary = train(dataset, system, out=tmp_path / "r", config=config, device="cpu")
    assert len(saved) >= 2, "at least two phases were validated"
    assert summary.best_epoch == 1
    assert summary.best_phase == {"idgenrec": "recommender-1"}.get(system, "train")
    assert summary.valid["ndcg@10"] == 1 / 2  # the second number that the first validation drew
    run = load_run(tmp_path / "r")
    state = run.system.state_dict()
    kept, *_, later = (saved[phase] for phase in sorted(saved))
    for name, value in state.items():
        assert torch.equal(value, kept[name]), name
    assert any(not torch.equal(value, later[name]) for name, value in state.items())
    assert run.manifest.best_phase == summary.best_phase


def test_the_names_of_a_kept_round_are_those_of_its_generator(
    dataset: Dataset, tmp_path: Path, saved: dict[Any, dict[Any, Any]]
) -> None:
    config = CONFIGS["idgenrec"]
    train(dataset, "idgenrec", out=tmp_path / "r", config=config, device="cpu")
    system: Any = load_run(tmp_path / "r").system
    assert int(system.made) == 0
    first, second = (saved[phase]["ids"] for phase in sorted(saved))
    assert not torch.equal(first, second), "the second round has other names"
    made, _ = system.new_ids(system.texts_of(dataset.items), dataset.item_ids)
    assert torch.equal(made, system.ids[1:])
    assert torch.equal(made, first[1:])


def test_a_round_of_idgenrec_begins_with_the_best_round_before_it(
    dataset: Dataset,
    tmp_path: Path,
    saved: dict[Any, dict[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second of three rounds is worse: the third begins as if it had never been."""
    begun: list[dict[str, torch.Tensor]] = []
    honest = IDGenRec.make_ids

    def note(self: Any, number: int) -> None:
        if number > int(self.made):
            begun.append({name: value.clone() for name, value in self.state_dict().items()})
        honest(self, number)

    monkeypatch.setattr(IDGenRec, "make_ids", note)
    config = {**CONFIGS["idgenrec"], "rounds": 3}
    train(dataset, "idgenrec", out=tmp_path / "r", config=config, device="cpu")
    first = saved[min(saved)]
    _, second, third = begun
    for name, value in third.items():
        if not name.startswith("generator."):  # it was trained once more in between
            assert torch.equal(value, first[name]), name
            assert torch.equal(value, second[name]), name
    assert int(third["made"]) == 0
