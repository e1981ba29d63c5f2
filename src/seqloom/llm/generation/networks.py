"""Networks of text models: pretrained, from scratch, or rebuilt from the configuration in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.core.errors import ArtefactError, AssetError, ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.hub.model_files import check_model_files
from seqloom.hub.model_folders import model_folder
from seqloom.hub.pretrained import load_pretrained, load_settings
from seqloom.hub.quiet import quiet_transformers
from seqloom.llm.config import NetworkConfig
from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.encoder_decoder import EncoderDecoder
from seqloom.llm.generation.text_model import TextModel
from seqloom.llm.loading import keep_layers
from seqloom.nn.dropout import dropout

_RESIDUAL_DROPOUT = "seqloom_residual_dropout"
"""Entry of a Llama's configuration, which the library does not know."""


def build_network(config: NetworkConfig, tokenizer: Any, progress: Progress = SILENT) -> Any:
    """Builds the network in float32 for the vocabulary of `tokenizer`.

    Raises:
        AssetError: a pretrained model cannot be found or read.
        ConfigError: the shape does not fit together, the tokenizer is larger than the model's vocabulary,
            or the model has fewer layers than `first_layers`.
    """
    if config.source == "pretrained":
        return _load(config, len(tokenizer), progress)
    if config.hidden_size % config.num_heads:
        raise ConfigError(
            f"hidden_size {config.hidden_size} is not a multiple of num_heads {config.num_heads}"
        )
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    if config.source == "llama":
        shape = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.feed_forward_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            attention_dropout=config.dropout,
            **{_RESIDUAL_DROPOUT: config.residual_dropout},
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return _drop_residuals(LlamaForCausalLM(shape))
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=config.hidden_size,
            d_kv=config.hidden_size // config.num_heads,
            d_ff=config.feed_forward_size,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            dropout_rate=config.dropout,
            feed_forward_proj="gated-gelu_pytorch_tanh",  # gated-gelu in one operation
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )


def _load(config: NetworkConfig, needed: int, progress: Progress) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    name = config.name
    folder = model_folder(name, progress)
    shape = load_settings(AutoConfig, folder, name)
    cut = keep_layers(shape, config.first_layers, name)
    auto = AutoModelForSeq2SeqLM if shape.is_encoder_decoder else AutoModelForCausalLM
    network = load_pretrained(
        auto,
        folder,
        name,
        what="language model",
        cut=cut,
        config=shape,
        dtype=torch.float32,
    )
    size = network.get_input_embeddings().weight.shape[0]
    if size < needed:
        raise ConfigError(
            f"{name} knows {size} tokens, but the tokenizer has {needed}; generator and recommender "
            "share one tokenizer, so use two models of one family"
        )
    return network


def _drop_residuals(network: Any) -> Any:
    """Adds the dropout that transformers' Llama lacks, where the network's configuration has a rate."""
    rate = getattr(network.config, _RESIDUAL_DROPOUT, 0.0)
    if not rate:
        return network
    body = network.base_model

    def of_output(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        return dropout(output, rate, training=module.training)

    def of_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return dropout(inputs[0], rate, training=module.training), *inputs[1:]

    body.layers[0].register_forward_pre_hook(of_input)
    for layer in body.layers:
        layer.self_attn.o_proj.register_forward_hook(of_output)
        layer.mlp.down_proj.register_forward_hook(of_output)
    body.norm.register_forward_hook(of_output)
    return network


def checkpoint_layers(network: Any) -> None:
    """Makes training keep only the inputs of layers, and compute the rest again in the backward pass."""
    network.activation_checkpointing_enable({"use_reentrant": False})
    network.disable_input_require_grads()  # for frozen embeddings, which a trained network has not


def build_text_model(network: Any, output_tokens: Tensor) -> TextModel:
    """Wraps a network as an encoder-decoder or a decoder-only text model."""
    kind = EncoderDecoder if network.config.is_encoder_decoder else DecoderOnly
    return kind(network, output_tokens)


def save_shape(network: Any, folder: Path) -> None:
    """Writes the network's configuration, from which `load_shape` builds it without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    network.config.save_pretrained(folder)


def load_shape(folder: Path) -> Any:
    """Builds a network from the configuration that `save_shape` wrote, with random weights.

    Raises:
        ArtefactError: the configuration is missing or damaged.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    try:
        check_model_files(folder)
        shape = load_settings(AutoConfig, folder, folder)
    except AssetError as error:
        raise ArtefactError(f"{folder} holds no model configuration: {error}") from None
    auto = AutoModelForSeq2SeqLM if shape.is_encoder_decoder else AutoModelForCausalLM
    with quiet_transformers():
        network = auto.from_config(shape, dtype=torch.float32, trust_remote_code=False)
    return _drop_residuals(network)


def prune_vocabulary(network: Any, kept: Tensor) -> None:
    """Reduces the vocabulary to the tokens `kept`, in place: token i becomes the former token kept[i].

    Logits of the kept tokens do not change by a bit.

    Raises:
        ConfigError: the decoder's start token is not kept.
    """
    embedding = network.get_input_embeddings()
    with torch.no_grad():
        smaller = nn.Embedding.from_pretrained(embedding.weight[kept].clone(), freeze=False)
        head = network.get_output_embeddings()
        tied = head.weight is embedding.weight
        rows = smaller.weight if tied else nn.Parameter(head.weight[kept].clone())
    start = getattr(network.config, "decoder_start_token_id", None)
    if network.config.is_encoder_decoder:
        place = [i for i, token in enumerate(kept.tolist()) if token == start]
        if not place:
            raise ConfigError(f"the decoder's start token {start} must be kept")
        network.config.decoder_start_token_id = place[0]
    network.set_input_embeddings(smaller)
    output = nn.Linear(rows.shape[1], rows.shape[0], bias=False)
    output.weight = rows
    network.set_output_embeddings(output)
    network.config.vocab_size = len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if hasattr(network.config, name):
            setattr(network.config, name, None)
