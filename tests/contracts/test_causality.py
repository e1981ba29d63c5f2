"""No position of a system sees a later item: what comes last changes no prediction before it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.core.config import apply_overrides
from seqloom.data.store import Dataset
from seqloom.pipelines.train.fit_run import start_system
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.e4srec.system import E4SRec
from seqloom.systems.registry import system_class
from seqloom.text.store import load_embeddings
from support.datasets import SMALL, small_config

CAUSAL = [
    ("sasrec", []),
    ("gru4rec", []),
    ("bsarec", []),
    ("bsarec", ["encoder.filter_share=1.0"]),
    ("llminit", []),
    ("llminit", ["encoder.kind=gru4rec"]),
    ("melt", []),
    ("cities", []),
    ("llmesr", []),
    ("llmesr", ["semantic.encoder=shared"]),
    ("llmesr", ["semantic.encoder=shared", "fusion.residual=false"]),
    ("llmesr", ["semantic.encoder=shared", "shared_encoder=false"]),
    ("llmesr", ["views=semantic"]),
    ("llmesr", ["encoder.kind=gru4rec"]),
    ("llmesr", ["encoder.kind=bsarec"]),
    ("e4srec", []),
    ("e4srec", ["candidates=ids"]),
]
"""Systems that predict at every position of one pass."""

BIDIRECTIONAL = [
    ("bert4rec", []),
    ("llminit", ["encoder.kind=bert4rec"]),
    ("llmesr", ["encoder.kind=bert4rec"]),
    ("llmesr", ["encoder.kind=bert4rec", "semantic.encoder=shared"]),
]
"""Systems that see all of what they are given; when recommending they are given the past alone."""

ITEMS = torch.tensor([[3, 9, 27, 5, 11]])
CHANGED = torch.tensor([[3, 9, 27, 5, 30]])
LENGTHS = torch.tensor([5])


def build(dataset: Dataset, name: str, overrides: list[str]) -> System[Any]:
    cls = system_class(name)
    config = cls.config_class.build(apply_overrides(small_config(name) or SMALL, overrides))
    sizes = {"num_items": dataset.num_items}
    if config.embeddings:
        sizes["text_size"] = load_embeddings(dataset).width
    if cls.uses_ids:
        sizes["id_size"] = 8
    ids = torch.randn(dataset.num_items, 8, generator=torch.Generator().manual_seed(0))
    system = start_system(name, config, Sizes(**sizes), TrainingData(dataset, ids=ids))
    with torch.no_grad():  # weights that matter: small ones would hide a leak in the tolerance
        torch.manual_seed(0)
        for parameter in system.parameters():
            if parameter.requires_grad and parameter.ndim >= 2:
                parameter.normal_(std=0.3)
        if isinstance(system, E4SRec) and system.text is not None:
            system.text.gate.fill_(1.0)  # else the language model would not take part
    return system.eval()


def states(system: Any, items: torch.Tensor) -> Any:
    """The state at every position. Shapes: [B, L] -> [B, L, D]."""
    with torch.inference_mode():
        if system.name == "e4srec":
            return system.states(items, LENGTHS)
        return system.states(items, LENGTHS, system.item_vectors())


@pytest.mark.parametrize(("name", "overrides"), CAUSAL)
def test_the_last_item_changes_no_earlier_state(
    dataset: Dataset, name: str, overrides: list[str]
) -> None:
    system = build(dataset, name, overrides)
    first, second = states(system, ITEMS), states(system, CHANGED)
    torch.testing.assert_close(first[:, :4], second[:, :4])
    assert not torch.allclose(first[:, 4], second[:, 4])


@pytest.mark.parametrize(("name", "overrides"), CAUSAL)
def test_a_state_within_a_history_is_that_of_the_shorter_history(
    dataset: Dataset, name: str, overrides: list[str]
) -> None:
    """Training at a position predicts what a recommendation after it needs."""
    system: Any = build(dataset, name, overrides)
    inside = states(system, ITEMS)[:, 2]
    short, lengths = ITEMS[:, :3], torch.tensor([3])
    with torch.inference_mode():
        if name == "e4srec":
            requested = system.last_states(short, lengths)
        elif name == "melt":
            requested = system.plain_queries(short, lengths, system.item_vectors())
        else:
            requested = system.queries(short, lengths, system.item_vectors())
    torch.testing.assert_close(inside, requested, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "overrides"), BIDIRECTIONAL)
def test_a_system_that_sees_both_sides_is_queried_with_the_past_alone(
    dataset: Dataset, name: str, overrides: list[str]
) -> None:
    """Item 4 is ranked from items 1 to 3: whatever stands behind them in the batch is not read."""
    system: Any = build(dataset, name, overrides)
    lengths = torch.tensor([3])
    with torch.inference_mode():
        vectors = system.item_vectors()
        requested = [
            system.queries(items, lengths, vectors) for items in (ITEMS, CHANGED, ITEMS[:, :3])
        ]
    torch.testing.assert_close(requested[0], requested[1])
    torch.testing.assert_close(requested[0], requested[2])
    # And these states do see both sides, or the test would show nothing.
    first, second = states(system, ITEMS), states(system, CHANGED)
    assert (first[:, :4] - second[:, :4]).abs().max() > 1e-3


def test_looking_ahead_is_detected(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above fails where the mask is gone."""
    from seqloom.nn import attention

    real = torch.nn.functional.scaled_dot_product_attention

    def unmasked(query: Any, key: Any, value: Any, *args: Any, **options: Any) -> torch.Tensor:
        return real(query, key, value)

    system = build(dataset, "sasrec", [])
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", unmasked)
    first, second = states(system, ITEMS), states(system, CHANGED)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(first[:, :4], second[:, :4])
