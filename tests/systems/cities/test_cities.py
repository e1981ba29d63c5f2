"""CITIES: what its inference network reads, learns and completes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SilentProgress
from seqloom.data.store import Dataset
from seqloom.systems.base import TrainingData
from seqloom.systems.occurrences import head_from
from seqloom.systems.tail_blend import blended
from support.datasets import SMALL, tiny_dataset
from support.untrained_systems import phase_of, untrained_system


class _Notes(SilentProgress):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_thresholds_without_head_or_tail_are_reported(tmp_path: Path) -> None:
    even = tiny_dataset(tmp_path / "even", [[1, 2, 1, 2], [2, 1, 2, 1]])
    with pytest.raises(ConfigError, match=r"tail_below is 9.*frequent one has 2.*nothing to learn"):
        untrained_system(even, "cities", "inference.tail_below=9").phases(TrainingData(even))
    progress = _Notes()
    phases = untrained_system(even, "cities", "inference.tail_below=2").phases(
        TrainingData(even, progress)
    )
    assert [phase.name for phase in phases] == ["train"]
    assert "no item has fewer than 2 training events" in progress.notes[0]


def test_blends_tail_rows_only(dataset: Dataset) -> None:
    system = untrained_system(dataset, "cities", "inference.tail_below=12")
    tail = phase_of(system, dataset, "contexts")
    before = system.items.detach().clone()
    assert torch.equal(system.eval().item_vectors(), before), "0: the base"
    system.item_blend.fill_(1.0)
    rows = tail.tail_items - 1
    with torch.no_grad():
        inferred = system.inference(tail.contexts(tail.tail_items, None), before)
        batch = dataset.train.pad(system.max_len)
        state = system.queries(batch.items, batch.lengths, before).mean(0)
    counts = dataset.popularity[tail.tail_items]
    expected = blended(before[rows], inferred, counts, torch.tensor(1.0), state)
    torch.testing.assert_close(system.item_vectors()[rows], expected)
    system.finish()
    torch.testing.assert_close(system.items[rows].detach(), expected)
    changed = (system.items != before).any(1).nonzero().flatten()
    assert torch.equal(changed, rows)


@pytest.mark.parametrize("below", ["12", "null"])
def test_completes_the_items_below_the_threshold(below: str, dataset: Dataset) -> None:
    system = untrained_system(dataset, "cities", f"inference.tail_below={below}")
    tail = phase_of(system, dataset, "contexts")
    popularity = dataset.popularity
    threshold = 12 if below == "12" else head_from(popularity[1:], "items")
    assert (popularity[tail.tail_items] < threshold).all()
    assert (popularity[tail.head_items] >= threshold).all()
    assert len(tail.tail_items) + len(tail.head_items) == int((tail.occurrences.counts > 0).sum())
    most = tail.occurrences.counts[tail.tail_items - 1].max()
    assert tail.most_contexts == min(10, int(most))
    steps = tail.steps(0)
    widths = {steps[n].contexts.shape[1] for n in range(len(steps))}
    assert max(widths) <= tail.most_contexts


def test_the_second_phase_trains_the_inference_network_only(dataset: Dataset) -> None:
    system = untrained_system(dataset, "cities", "inference.tail_below=null")
    phase = phase_of(system, dataset, "contexts")
    assert not phase.validated, "how far the inference is followed is chosen afterwards"
    batch = phase.steps(0)[0]
    assert set(batch.items.tolist()) <= set(phase.head_items.tolist())
    phase.loss(batch)["loss"].value.backward()
    touched = {name.split(".")[0] for name, p in system.named_parameters() if p.grad is not None}
    assert touched == {"inference"}


def test_an_inference_does_not_depend_on_padding_or_on_the_order_of_contexts(
    dataset: Dataset,
) -> None:
    system = untrained_system(dataset, "cities").eval()
    contexts = torch.tensor([[[0, 3, 5, 0], [7, 0, 9, 1]]])
    contexts = torch.nn.functional.pad(contexts, (6, 6))
    with torch.no_grad():
        first = system.inference(contexts, system.items)
        second = system.inference(contexts[:, [1, 0]], system.items)
        padded = system.inference(torch.nn.functional.pad(contexts, (0, 0, 0, 3)), system.items)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, padded)


def test_runs_of_earlier_versions_load(dataset: Dataset) -> None:
    system = untrained_system(dataset, "cities")
    state = system.state_dict()
    del state["item_blend"]
    system.load_state_dict(state)
    config = type(system.config).build({**SMALL, "inference": {"patience": 5}})
    assert config == system.config
