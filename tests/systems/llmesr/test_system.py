"""The views of the paper: every ablation is a key, and every key does what it says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.config import apply_overrides
from seqloom.data.store import Dataset
from seqloom.distributed.processes import ALONE
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.llmesr.config import LLMESRConfig
from seqloom.systems.llmesr.system import LLMESR
from seqloom.systems.text_start import scaled_pca
from seqloom.text.store import load_embeddings
from support.datasets import SMALL

WIDTH = SMALL["encoder"]["hidden_size"]
PAPER = ("semantic.encoder=shared", "distillation.alpha=0.1")
KINDS = ["sasrec", "gru4rec", "bert4rec"]
HISTORY = torch.tensor([[3, 9, 27, 5]]), torch.tensor([4])


def build(dataset: Dataset, *overrides: Any) -> Any:
    config = LLMESRConfig.build(apply_overrides(SMALL, [*PAPER, *overrides]))
    text_size = load_embeddings(dataset, config.text).width
    torch.manual_seed(0)
    system = LLMESR(config, Sizes(num_items=dataset.num_items, text_size=text_size))
    system.initialise(TrainingData(dataset))
    return system


def answers(system: LLMESR) -> torch.Tensor:
    with torch.inference_mode():
        return system.eval().queries(*HISTORY, system.item_vectors())


def first_losses(dataset: Dataset, *overrides: Any) -> tuple[LLMESR, dict[str, torch.Tensor]]:
    system = build(dataset, *overrides)
    (phase,) = system.phases(TrainingData(dataset))
    steps = phase.steps(0)
    torch.manual_seed(1)
    return system, ALONE.add_up(phase.loss(steps[0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("views", ["collaborative", "semantic"])
def test_without_a_view_nothing_of_it_is_there(views: str, kind: str, dataset: Dataset) -> None:
    system = build(dataset, f"views={views}", f"encoder.kind={kind}")
    both = build(dataset, f"encoder.kind={kind}")
    assert system.fusion is None
    assert (system.collaborative is None) == (views == "semantic")
    assert (system.semantic is None) == (views == "collaborative")
    kept = slice(None, WIDTH) if views == "collaborative" else slice(WIDTH, None)
    torch.testing.assert_close(system.item_vectors(), both.item_vectors()[:, kept])
    assert answers(system).shape == (1, WIDTH)
    _, losses = first_losses(dataset, f"views={views}", f"encoder.kind={kind}")
    assert torch.isfinite(losses["loss"])


def test_without_self_distillation_the_loss_is_the_ranking_loss(dataset: Dataset) -> None:
    system, losses = first_losses(dataset, "distillation.alpha=0")
    assert list(losses) == ["loss"]
    assert system.distillation is None
    _, full = first_losses(dataset)
    torch.testing.assert_close(full["rank"], losses["loss"])
    assert full["loss"] > full["rank"]


def test_alpha_scales_the_distillation_and_n_changes_its_teachers(dataset: Dataset) -> None:
    _, first = first_losses(dataset, "distillation.alpha=0.1")
    _, tenfold = first_losses(dataset, "distillation.alpha=1.0")
    torch.testing.assert_close(tenfold["distillation"], 10 * first["distillation"])
    system, other = first_losses(dataset, "distillation.num_similar=3")
    assert system.distillation._similar.shape == (dataset.num_users, 3)
    assert not torch.isclose(first["distillation"], other["distillation"])


def test_distillation_by_contrast_is_another_loss_and_has_a_gradient(dataset: Dataset) -> None:
    _, mse = first_losses(dataset)
    system, contrast = first_losses(dataset, "distillation.kind=contrast")
    assert not torch.isclose(mse["distillation"], contrast["distillation"])
    contrast["distillation"].backward()
    assert float(system.collaborative.grad.abs().sum()) > 0
    _, colder = first_losses(dataset, "distillation.kind=contrast", "distillation.temperature=1")
    assert not torch.isclose(contrast["distillation"], colder["distillation"])


def test_teachers_of_the_step_follow_the_weights_and_those_of_the_epoch_do_not(
    dataset: Dataset,
) -> None:
    for teacher, moves in (("step", True), ("epoch", False)):
        system = build(dataset, f"distillation.teacher={teacher}")
        (phase,) = system.phases(TrainingData(dataset))
        batch = phase.steps(0)[0]
        states = torch.zeros(*batch.inputs.items.shape, system.vector_size)
        before = system.distillation(batch, states, system._represent).value
        with torch.no_grad():
            system.collaborative.mul_(-1.5)
        after = system.distillation(batch, states, system._represent).value
        assert torch.isclose(before, after) != moves


@pytest.mark.parametrize("kind", KINDS)
def test_separate_encoders_encode_each_view_with_their_own(kind: str, dataset: Dataset) -> None:
    system = build(dataset, "shared_encoder=false", f"encoder.kind={kind}")
    before = answers(system)
    with torch.no_grad():
        for weight in system.second_encoder.parameters():
            weight.mul_(1.5).add_(0.01)
    after = answers(system)
    torch.testing.assert_close(before[:, :WIDTH], after[:, :WIDTH])
    assert not torch.allclose(before[:, WIDTH:], after[:, WIDTH:])
    assert build(dataset, f"encoder.kind={kind}").second_encoder is None


@pytest.mark.parametrize("kind", KINDS)
def test_without_cross_attention_a_view_does_not_see_the_other(kind: str, dataset: Dataset) -> None:
    for overrides, sees in (([], True), (["fusion.cross_attention=false"], False)):
        system = build(dataset, f"encoder.kind={kind}", "fusion.weight_std=0.5", *overrides)
        before = answers(system)
        with torch.no_grad():
            system.semantic.text.mul_(-2)
        after = answers(system)
        assert torch.allclose(before[:, :WIDTH], after[:, :WIDTH], atol=1e-6) != sees


def test_without_the_residual_a_view_is_only_what_was_attended(dataset: Dataset) -> None:
    assert not torch.allclose(
        answers(build(dataset)), answers(build(dataset, "fusion.residual=false"))
    )


def test_one_layer_adapter(dataset: Dataset) -> None:
    one: Any = build(dataset, "semantic.adapter_layers=1")
    two: Any = build(dataset)
    assert len(one.semantic.adapter) == 1
    assert len(two.semantic.adapter) == 2
    with torch.no_grad():
        text, layer = one.semantic.text, one.semantic.adapter[0]
        scaled = text * one.config.semantic.text_scale
        torch.testing.assert_close(one.semantic(), layer(scaled))


def test_random_start_of_the_collaborative_table(dataset: Dataset) -> None:
    text = load_embeddings(dataset).items
    pca, random = build(dataset), build(dataset, "collaborative_start=random")
    std, whitening = pca.config.initial_std, pca.config.whitening
    torch.testing.assert_close(pca.collaborative.data, scaled_pca(text, WIDTH, std, whitening))
    plain = build(dataset, "whitening=0")
    torch.testing.assert_close(plain.collaborative.data, scaled_pca(text, WIDTH, std))
    assert not torch.allclose(plain.collaborative, pca.collaborative)
    assert not torch.allclose(pca.collaborative, random.collaborative)
    assert abs(float(random.collaborative.detach().std()) - std) < 0.2 * std


@pytest.mark.parametrize("trained", [False, True])
def test_the_text_embedding_is_frozen_by_default(trained: bool, dataset: Dataset) -> None:
    system, losses = first_losses(dataset, f"semantic.trained_text={str(trained).lower()}")
    losses["loss"].backward()
    assert ("semantic.text" in dict(system.named_parameters())) == trained
    assert ("semantic.text" not in system.fixed_entries) == trained
    assert (system.semantic.text.grad is not None) == trained


def test_the_start_of_the_adapter_is_a_choice(dataset: Dataset) -> None:
    pca, random = build(dataset), build(dataset, "semantic.adapter_start=random")
    assert not torch.allclose(pca.semantic(), random.semantic())
    assert abs(float(random.semantic().detach().std()) - random.config.initial_std) < 1e-4


def test_a_cropped_prompt_is_an_embedding_of_that_name(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.path, tmp_path / "data")
    copy = Dataset.load(tmp_path / "data")
    names = {"full": "a thing that is called {title}", "cropped": "title"}
    for name, template in names.items():
        embed(copy, EmbedOptions(encoder="hash", users="mean", item_template=template, name=name))
    full, cropped = build(copy, "text=full"), build(copy, "text=cropped")
    text = load_embeddings(copy, "cropped").items
    torch.testing.assert_close(cropped.semantic.text, text)
    assert not torch.allclose(text, full.semantic.text)
    assert not torch.allclose(answers(cropped), answers(full))


def test_similar_users_may_be_found_by_an_index(dataset: Dataset) -> None:
    embeddings = load_embeddings(dataset)
    _, exact = first_losses(dataset)
    _, actual = first_losses(dataset, "distillation.search=approximate", "distillation.recall=0.8")
    assert len(list(embeddings.path.glob("neighbours-*-approximate-0.8.safetensors"))) == 1
    torch.testing.assert_close(actual, exact)  # of so few users all are looked at
