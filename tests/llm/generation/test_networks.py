"""Models from scratch, kept shapes, and vocabularies that are pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from seqloom.core.errors import ArtefactError, AssetError, ConfigError
from seqloom.llm.config import NetworkConfig
from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.encoder_decoder import EncoderDecoder
from seqloom.llm.generation.networks import (
    build_network,
    build_text_model,
    checkpoint_layers,
    load_shape,
    prune_vocabulary,
    save_shape,
)
from seqloom.llm.generation.text_model import TextModel
from support.language_models import build_tiny_network, build_tiny_tokenizer
from support.step_counts import bytes_kept

SHAPE = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "feed_forward_size": 32}
OUTPUTS = torch.tensor([1, 5, 3, 9, 4])


def network(source: str) -> Any:
    torch.manual_seed(0)
    return build_network(NetworkConfig(source=source, **SHAPE), build_tiny_tokenizer())


def scores(model: TextModel, translate: dict[int, int] | None = None) -> Any:
    """[2, 3, V'] for two prompts; `translate` maps tokens to those of a pruned model."""
    tokens = torch.tensor([[7, 8, 9], [3, 4, 0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    if translate is not None:
        tokens = torch.tensor([[translate[t] for t in row] for row in tokens.tolist()])
    targets = torch.tensor([[1, 4, 0], [2, 0, -1]])
    with torch.inference_mode():
        return model.eval()(model.embed(tokens), mask, targets)[:, :2]


@pytest.mark.parametrize(("source", "kind"), [("t5", EncoderDecoder), ("llama", DecoderOnly)])
def test_a_model_from_scratch_has_the_requested_shape(source: str, kind: type) -> None:
    made = network(source)
    assert made.get_input_embeddings().weight.shape == (len(build_tiny_tokenizer()), 16)
    assert isinstance(build_text_model(made, OUTPUTS), kind)
    assert not torch.equal(*(network_with(source, seed) for seed in (1, 2)))


def network_with(source: str, seed: int) -> Any:
    torch.manual_seed(seed)
    made = build_network(NetworkConfig(source=source, **SHAPE), build_tiny_tokenizer())
    return made.get_input_embeddings().weight


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="16 is not a multiple of num_heads 3"):
        build_network(
            NetworkConfig(source="t5", **{**SHAPE, "num_heads": 3}), build_tiny_tokenizer()
        )


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=str(tmp_path)):
        build_network(NetworkConfig(name=str(tmp_path / "none")), build_tiny_tokenizer())


@pytest.mark.parametrize("source", ["t5", "llama"])
def test_a_folder_is_loaded_with_its_weights(source: str, tmp_path: Path) -> None:
    made = network(source)
    made.save_pretrained(tmp_path)
    loaded = build_network(NetworkConfig(name=str(tmp_path)), build_tiny_tokenizer())
    first, second = (scores(build_text_model(each, OUTPUTS)) for each in (made, loaded))
    torch.testing.assert_close(first, second)


def test_a_tokenizer_that_is_too_large_is_refused(tmp_path: Path) -> None:
    build_tiny_network("llama", vocabulary=10).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="knows 10 tokens, but the tokenizer has 37"):
        build_network(NetworkConfig(name=str(tmp_path)), build_tiny_tokenizer())


@pytest.mark.parametrize("source", ["t5", "llama"])
def test_pruning_changes_no_score(source: str) -> None:
    whole = network(source)
    before = scores(build_text_model(whole, OUTPUTS))
    kept = [1, 5, 3, 9, 4, 0, 7, 8]
    small = network(source)
    prune_vocabulary(small, torch.tensor(kept))
    model = build_text_model(small, torch.arange(len(OUTPUTS)))
    translate = {token: place for place, token in enumerate(kept)}
    assert torch.equal(scores(model, translate), before)
    assert model.output_rows(small.get_input_embeddings().weight).shape == (5, 16)
    assert len(small.get_input_embeddings().weight) == 8


def test_a_pruned_t5_needs_its_start_token() -> None:
    with pytest.raises(ConfigError, match="start token 0 must be kept"):
        prune_vocabulary(network("t5"), torch.tensor([1, 5, 3]))


@pytest.mark.parametrize("source", ["t5", "llama"])
@pytest.mark.parametrize("pruned", [False, True])
def test_shape_and_weights_make_the_model_again(source: str, pruned: bool, tmp_path: Path) -> None:
    made = network(source)
    if pruned:
        prune_vocabulary(made, torch.tensor([1, 5, 3, 9, 4, 0, 7, 8]))
    first = build_text_model(made, torch.arange(5))
    stored = load(save({n: v.contiguous() for n, v in first.state_dict().items()}))
    save_shape(made, tmp_path)
    second = build_text_model(load_shape(tmp_path), torch.arange(5))
    second.load_state_dict(stored)
    translate = {t: t % 8 for t in range(10)}
    assert torch.equal(scores(first, translate), scores(second, translate))


def test_a_folder_without_a_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no model configuration"):
        load_shape(tmp_path)


def test_the_shape_of_a_pretrained_model_is_its_own() -> None:
    with pytest.raises(ConfigError, match=r"hidden_size: for models from scratch alone"):
        NetworkConfig.build({"hidden_size": 64})


def test_a_recommender_whose_shape_is_set_is_still_from_scratch() -> None:
    from seqloom.systems.idgenrec.config import IDGenRecConfig

    config = IDGenRecConfig.build({"recommender": {"hidden_size": 64}})
    assert (config.recommender.source, config.recommender.hidden_size) == ("llama", 64)
    assert IDGenRecConfig.build(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("source", ["t5", "llama"])
def test_checkpointed_layers_give_the_same_gradients_and_keep_less(source: str) -> None:
    tokens = torch.tensor([[7, 8, 9], [3, 4, 0]]).repeat(8, 4)
    targets = torch.tensor([[1, 4, 0], [2, 0, -1]]).repeat(8, 1)

    class Writing:
        def __init__(self, network: Any) -> None:
            self.model = build_text_model(network, OUTPUTS).train()

        def loss(self, batch: Any) -> Any:
            torch.manual_seed(1)
            logits = self.model(self.model.embed(tokens), tokens > 0, targets)
            return logits.square().mean()

    plain = Writing(network(source))
    made = network(source)
    checkpoint_layers(made)
    again = Writing(made)
    for each in (plain, again):
        each.loss(None).backward()
    others = dict(again.model.named_parameters())
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(others[name].grad, parameter.grad)
    weights = list(plain.model.parameters())
    kept = bytes_kept(plain, None, weights)
    assert bytes_kept(again, None, list(again.model.parameters())) < 0.7 * kept
    # A cache is used where nothing is trained.
    with torch.no_grad():
        prompt = (tokens[:2, :3], tokens[:2, :3] > 0)
        first, second = (each.model.eval().start(*prompt).first for each in (plain, again))
    torch.testing.assert_close(first, second)


def test_residual_dropout_drops_in_training_alone_and_outlives_the_run(tmp_path: Path) -> None:
    plain = network("llama").train()
    torch.manual_seed(0)
    config = NetworkConfig(source="llama", residual_dropout=0.5, dropout=0.0, **SHAPE)
    dropping = build_network(config, build_tiny_tokenizer())
    pairs = zip(plain.parameters(), dropping.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    tokens = torch.arange(12).reshape(2, 6)
    save_shape(dropping, tmp_path / "shape")
    again = load_shape(tmp_path / "shape")
    again.load_state_dict(dropping.state_dict())
    for model in (dropping, again):
        torch.testing.assert_close(
            model.eval()(tokens).logits, plain.eval()(tokens).logits, rtol=0, atol=0
        )
        states = [model.train().base_model(tokens).last_hidden_state for _ in range(2)]
        assert not torch.equal(*states)
        # The states themselves are dropped last: half of them are 0.
        assert 0.3 < float((states[0] == 0).float().mean()) < 0.7


def test_each_place_of_residual_dropout_is_reached() -> None:
    config = NetworkConfig(source="llama", residual_dropout=0.5, dropout=0.0, **SHAPE)
    model = build_network(config, build_tiny_tokenizer()).train()
    layer, zeros = model.base_model.layers[0], {}

    def record(name: str) -> Any:
        def hook(_: Any, inputs: Any, output: Any = None) -> None:
            seen = inputs[0] if output is None else output
            zeros[name] = float((seen == 0).float().mean())

        return hook

    layer.register_forward_pre_hook(record("embeddings"))
    layer.self_attn.o_proj.register_forward_hook(record("attention"))
    layer.mlp.down_proj.register_forward_hook(record("feed-forward"))
    model.base_model.norm.register_forward_hook(record("states"))
    model(torch.arange(12).reshape(2, 6))
    assert zeros.keys() == {"embeddings", "attention", "feed-forward", "states"}
    assert all(0.3 < share < 0.7 for share in zeros.values()), zeros


def test_a_t5_has_one_rate_of_dropout() -> None:
    with pytest.raises(ConfigError, match=r"a t5 has one rate for all of its dropout"):
        NetworkConfig.build({"source": "t5", "residual_dropout": 0.1})
