"""What E4SRec declares before training, beside what its steps do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seqloom.core.cost import BatchShape
from seqloom.core.errors import ConfigError
from seqloom.core.phase import Phase
from seqloom.data.store import Dataset
from seqloom.distributed.processes import ALONE
from seqloom.pipelines.estimate.costs import costs_of
from seqloom.pipelines.estimate.footprint import memory_of
from seqloom.pipelines.estimate.plan import plan
from seqloom.pipelines.estimate.workload import Workload
from seqloom.pipelines.train.train import train
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.reader import embed
from seqloom.systems.e4srec.system import E4SRec
from support.datasets import SMALL, looping_dataset
from support.language_models import save_tiny_bert, shared_tiny_llama
from support.step_counts import RATES, bytes_kept

WIDTH = 16
KINDS = ["causal", "prompt", "without adapter", "bidirectional", "recomputed"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return looping_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(params=KINDS)
def built(
    request: pytest.FixtureRequest, dataset: Dataset, tmp_path: Path
) -> tuple[E4SRec, Phase, Workload]:
    """A system, its phase, and the work that is declared for it."""
    keys: dict[str, Any] = {
        "llm": {"name": str(shared_tiny_llama())},
        "batch_size": 16,
        "max_len": 12,
        "candidates": "ids",
    }
    if request.param == "bidirectional":
        folder = save_tiny_bert(tmp_path / "bert")
        keys |= {"llm": {"name": str(folder), "kind": "bidirectional"}, "mode": "prompt"}
    changes: dict[str, dict[str, Any]] = {
        "prompt": {"mode": "prompt"},
        "without adapter": {"train_adapter": False},
        "recomputed": {"llm": {**keys["llm"], "gradient_checkpointing": True}},
    }
    keys |= changes.get(request.param, {})
    config = E4SRecConfig.build(keys)
    system = E4SRec(config, Sizes(num_items=dataset.num_items, id_size=WIDTH))
    data = TrainingData(dataset, ids=torch.randn(dataset.num_items, WIDTH))
    system.initialise(data)
    (phase,) = system.phases(data)
    return system.train(), phase, Workload(dataset, system, costs_of(system), config)


def longest(phase: Phase) -> Any:
    """The batch with the longest rows."""
    steps = phase.steps(0)
    return max((steps[at] for at in range(len(steps))), key=lambda b: b.inputs.items.shape[1])


def shape_of(system: E4SRec, batch: Any) -> BatchShape:
    """What is declared for a batch that was cut: its inputs lack the last item."""
    return costs_of(system).batch_shape(batch.inputs.lengths + 1, batch.inputs.items.shape[1] + 1)


def test_the_steps_are_those_of_the_training(built: tuple[E4SRec, Phase, Workload]) -> None:
    _, phase, work = built
    steps = phase.steps(0)
    assert work.steps == len(steps)
    assert work.targets == sum(steps[at].num_targets for at in range(len(steps)))


@pytest.mark.usefixtures("products_by_torch")
def test_the_products_declared_are_those_that_a_step_does(
    built: tuple[E4SRec, Phase, Workload],
) -> None:
    system, phase, work = built
    batch = longest(phase)
    plain = sdpa_kernel(SDPBackend.MATH)  # the counter knows no other kernel of a CPU
    with plain, FlopCounterMode(display=False) as counter:
        ALONE.add_up(phase.loss(batch))["loss"].backward()
    declared = work.costs.step_cost(shape_of(system, batch)).products
    assert declared == pytest.approx(counter.get_total_flops(), rel=0.06)


@pytest.mark.usefixtures("products_by_torch")
def test_the_bytes_held_are_near_those_that_a_step_keeps(
    built: tuple[E4SRec, Phase, Workload],
) -> None:
    system, phase, work = built
    batch = longest(phase)
    kept = bytes_kept(phase, batch, system.base.backbone.parameters())
    held = work.costs.step_cost(shape_of(system, batch)).held
    if system.config.llm.gradient_checkpointing:
        # Autograd is asked neither for the inputs of layers nor for what is computed again.
        kept += recomputed_bytes(system, batch)
    assert 0.8 < held / kept < 2


def recomputed_bytes(system: E4SRec, batch: Any) -> int:
    """Bytes of the inputs of all layers, and half of what two layers keep that are not computed again."""
    layers, adapter = system.base.backbone.layers, system.reader.adapter
    items, lengths = batch.inputs.items, batch.inputs.lengths

    class Reading:
        def loss(self, batch: Any) -> None:
            system.reader(embed(items, system.ids), lengths)

    frozen = list(system.base.backbone.parameters())
    few = bytes_kept(Reading(), batch, frozen)
    adapter.gradient_checkpointing = False
    many = bytes_kept(Reading(), batch, frozen)
    adapter.gradient_checkpointing = True
    inputs = 4 * items.numel() * system.base.width * len(layers)
    return (many - few) // len(layers) + inputs


def test_estimates_describe_the_run(dataset: Dataset, tmp_path: Path) -> None:
    train(dataset, "sasrec", config=SMALL, out=tmp_path / "ids", device="cpu")
    keys = {
        "llm": {"name": str(shared_tiny_llama())},
        "ids": {"run": str(tmp_path / "ids")},
        "batch_size": 16,
        "max_len": 12,
        "candidates": "ids",
        "epochs": 1,
    }
    reported = plan(dataset, "e4srec", config=keys, device="cpu", rates=RATES)
    done = train(dataset, "e4srec", config=keys, out=tmp_path / "run", device="cpu")
    assert reported.parameters == done.trained_parameters
    assert reported.targets_per_epoch == done.targets_per_epoch
    weights = (tmp_path / "run" / "weights.safetensors").stat().st_size / 2**20
    assert reported.disk.run_mb == pytest.approx(weights, abs=0.1)


def test_the_width_of_ids_that_are_to_be_trained_is_known(dataset: Dataset) -> None:
    keys: dict[str, Any] = {
        "llm": {"name": str(shared_tiny_llama())},
        "batch_size": 16,
        "max_len": 12,
        "candidates": "ids",
    }
    narrow, wide = (
        plan(
            dataset,
            "e4srec",
            config=keys | {"ids": {"config": {"encoder": {"hidden_size": width}}}},
            device="cpu",
            rates=RATES,
        )
        for width in (16, 48)
    )
    assert wide.parameters - narrow.parameters == 32 * 32  # the projection to the model's width
    with pytest.raises(ConfigError, match="no vector for each item; take sasrec"):
        plan(dataset, "e4srec", config=keys | {"ids": {"system": "popularity"}}, rates=RATES)


def test_a_language_model_counts_on_a_gpu_alone(built: tuple[E4SRec, Phase, Workload]) -> None:
    system, _, work = built
    weights = system.base.backbone.parameters()
    shared = sum(4 * w.numel() for w in weights if not w.requires_grad)
    assert shared
    assert work.costs.shared_bytes() == shared
    cpu, gpu = (memory_of(work, torch.device(kind)).weights_mb for kind in ("cpu", "cuda"))
    assert gpu - cpu == pytest.approx(shared / 2**20, abs=0.11)  # both are rounded
