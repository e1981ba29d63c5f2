"""Which weights of a language model are trained, and that merged adapters leave no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import AssetError, ConfigError
from seqloom.core.progress import SILENT
from seqloom.systems.tuned_text.config import TransformerTuningConfig
from seqloom.systems.tuned_text.language_model import choose_parameters, load_model, merge_adapters

TEXTS = ["below is an instruction", "write a response"]


def loaded(llama: Any, **changes: Any) -> Any:
    config = TransformerTuningConfig.build(changes)
    model = load_model(llama, config, SILENT)
    choose_parameters(model, config)
    return model


def trained(model: Any) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_all_weights_are_trained_without_a_choice(llama: Any) -> None:
    model = loaded(llama)
    assert trained(model) == {name for name, _ in model.named_parameters()}


def test_the_last_layers_alone_are_trained(llama: Any) -> None:
    model = loaded(llama, layers=1)
    layers = model[0].auto_model.layers
    last = {f"layers.{len(layers) - 1}.{name}" for name, _ in layers[-1].named_parameters()}
    assert {name.partition("layers.")[2] for name in trained(model)} == {
        name.partition("layers.")[2] for name in last
    }


def test_merged_adapters_leave_the_vectors_and_no_adapter(llama: Any) -> None:
    model = loaded(llama, lora={"rank": 2})
    assert trained(model)
    assert all("lora" in name for name in trained(model))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    model.eval()
    before = model.encode(TEXTS, convert_to_tensor=True)
    merge_adapters(model)
    assert not any("lora" in name for name, _ in model.named_parameters())
    torch.testing.assert_close(model.encode(TEXTS, convert_to_tensor=True), before)
    plain = loaded(llama).eval().encode(TEXTS, convert_to_tensor=True)
    assert not torch.allclose(before, plain, atol=1e-3)


def test_choices_that_do_not_fit_are_named(llama: Any) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        loaded(llama, layers=1, lora={"rank": 2})
    with pytest.raises(ConfigError, match=r"layers: found 99, but the model has \d+"):
        loaded(llama, layers=99)
    with pytest.raises(ConfigError, match=r"lora\.targets: found .*nose"):
        loaded(llama, lora={"targets": ["nose"]})


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssetError, match="empty"):
        load_model(str(tmp_path / "empty"), TransformerTuningConfig(), SILENT)


def test_random_weights_have_the_shape_and_are_the_same_each_time(
    llama: Any, tmp_path: Path
) -> None:
    model = loaded(llama)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(0.5)
    model.save(str(tmp_path / "half"), create_model_card=False)
    half = str(tmp_path / "half")
    assert all(bool((weight == 0.5).all()) for weight in loaded(half).parameters())
    random, again = loaded(half, start="random"), loaded(half, start="random")
    assert random.training
    for old, new, same in zip(
        model.parameters(), random.parameters(), again.parameters(), strict=True
    ):
        assert old.shape == new.shape
        assert torch.equal(new, same)
        assert not bool((new == 0.5).any())
