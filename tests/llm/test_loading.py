from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqloom.core.errors import AssetError, ConfigError
from seqloom.hub.model_folders import model_folder
from seqloom.llm.loading import load_causal_lm
from support.language_models import save_tiny_llama


@pytest.fixture(scope="module")
def smollm() -> Path:
    try:
        return model_folder("smollm2-135m-instruct")
    except AssetError as error:
        pytest.skip(f"the real SmolLM2 cannot be had here: {error}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of three layers without a padding token."""
    return save_tiny_llama(tmp_path_factory.mktemp("lm"), num_layers=3)


def test_the_first_layers_are_kept_with_their_weights(tiny: Path) -> None:
    whole, tokenizer = load_causal_lm(tiny)
    cut, _ = load_causal_lm(tiny, num_layers=2)
    assert (len(whole.model.layers), len(cut.model.layers)) == (3, 2)
    kept = cut.state_dict()
    assert all(torch.equal(kept[name], whole.state_dict()[name]) for name in kept)
    assert tokenizer.pad_token == "</s>"
    assert not whole.training


@pytest.mark.parametrize("num_layers", [0, 4])
def test_layers_out_of_range_are_refused(tiny: Path, num_layers: int) -> None:
    with pytest.raises(ConfigError, match="1 to 3"):
        load_causal_lm(tiny, num_layers=num_layers)


def test_the_number_format_is_the_requested_one(tiny: Path) -> None:
    assert load_causal_lm(tiny)[0].dtype == torch.float32
    assert load_causal_lm(tiny, dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_a_folder_that_is_no_model_is_explained(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"no config\.json"):
        load_causal_lm(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    with pytest.raises(AssetError, match="cannot be loaded"):
        load_causal_lm(tmp_path)


def test_the_real_smollm_is_an_ordinary_model_that_knows_its_capitals(
    smollm: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_causal_lm(smollm)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    tokens = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**tokens, max_new_tokens=8, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer[tokens["input_ids"].shape[1] :])
    # A model that is marked as quantised refuses both.
    load_causal_lm(smollm, num_layers=1)[0].float().save_pretrained(tmp_path)
