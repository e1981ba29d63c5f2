"""The language model of a text encoder under tuning: loading, what is trained, merging of adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from seqloom.core.errors import AssetError, ConfigError
from seqloom.core.progress import Progress
from seqloom.hub.model_folders import model_folder
from seqloom.llm.loading import reinitialise
from seqloom.llm.plugins.shared_base import LoraSettings
from seqloom.systems.tuned_text.config import LanguageModelTuningConfig
from seqloom.text.encoders.sentence import SentenceEncoder, load_pooled


def load_model(name: str, config: LanguageModelTuningConfig, progress: Progress) -> Any:
    """Loads a sentence-transformers model, or a language model with the pooling of the configuration.

    Raises:
        AssetError: the model is missing, damaged, or has no weights to train.
    """
    folder = model_folder(name, progress)
    if (folder / "modules.json").exists():
        model = SentenceEncoder(name, folder, device="cpu").model
    else:
        model = _with_pooling(name, folder, config)
    if getattr(model[0], "auto_model", None) is None:
        raise AssetError(f"{name} is no transformer; tune word vectors with --kind static")
    if config.start == "random":
        body = model[0].auto_model
        body.load_state_dict(reinitialise(body).state_dict())
    return model.train()


def _with_pooling(name: str, folder: Path, config: LanguageModelTuningConfig) -> Any:
    modes = {"mean": "mean", "last": "lasttoken", "cls": "cls"}
    model = load_pooled(name, folder, modes[config.pooling])
    tokenizer = model.tokenizer
    if tokenizer.pad_token is None:
        # Padded positions are masked, so any token can be the padding token.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return model


def choose_parameters(model: Any, config: LanguageModelTuningConfig) -> None:
    """Makes trainable what the configuration names: adapters, the last layers, or all weights.

    Raises:
        ConfigError: both are named, or there are fewer layers.
    """
    if config.lora is not None and config.layers is not None:
        raise ConfigError("lora and layers exclude each other: set one of them to null")
    if config.lora is not None:
        model.requires_grad_(False)
        _add_adapters(model[0].auto_model, config.lora)
    elif config.layers is not None:
        stack = _layers(model[0].auto_model)
        if config.layers > len(stack):
            raise ConfigError(f"layers: found {config.layers}, but the model has {len(stack)}")
        model.requires_grad_(False)
        for layer in stack[-config.layers :]:
            layer.requires_grad_(True)


def _layers(network: nn.Module) -> nn.ModuleList:
    """Returns the longest list of modules: the layers of a transformer."""
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ConfigError("the model has no list of layers; set layers to null")
    return max(lists, key=len)


def _add_adapters(network: nn.Module, settings: LoraSettings) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    inside = _layers(network)
    ends = sorted(
        {
            path.rpartition(".")[2]
            for path, module in inside.named_modules()
            if isinstance(module, nn.Linear)
        }
    )
    targets = settings.targets or ends
    if not set(targets) <= set(ends):
        raise ConfigError(f"lora.targets: found {targets}, but the layers are {', '.join(ends)}")
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
    )
    inject_adapter_in_model(lora, network)


def merge_adapters(network: nn.Module) -> None:
    """Adds low-rank adapters to the weights that they adapt, and removes them."""
    from peft.tuners.lora import LoraLayer

    for path, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            network.set_submodule(path, module.get_base_layer())
