"""A language model tuned by the log as a text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqloom.core.errors import AssetError, ConfigError
from seqloom.core.phase import Phase
from seqloom.core.progress import Progress
from seqloom.hub.model_folders import model_folder
from seqloom.hub.quiet import quiet_transformers
from seqloom.llm.plugins.shared_base import LoraSettings
from seqloom.systems.base import TrainingData
from seqloom.systems.tuned_text.config import TransformerTuningConfig
from seqloom.systems.tuned_text.contrastive import ContrastivePhase
from seqloom.systems.tuned_text.tower import EncoderTower
from seqloom.text.encoders import build_encoder
from seqloom.text.encoders.base import text_batches
from seqloom.text.encoders.sentence import SentenceEncoder, load_pooled
from seqloom.text.options import EncoderOptions
from seqloom.text.prompts import item_prompts

_BLOCK = 1024


class TransformerEncoder:
    """A language model under tuning; see `TunedEncoder`."""

    def __init__(
        self,
        name: str,
        config: TransformerTuningConfig,
        data: TrainingData,
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self._data = data
        model = _load(name, config, data.progress).to(device)
        model.max_seq_length = min(config.max_tokens, model.max_seq_length or config.max_tokens)
        _choose_parameters(model, config)
        self.tower = EncoderTower(model, config, data.dataset.num_items).to(device)
        prompts = item_prompts(data.dataset, config.template)
        self.texts = [text or "" for text in prompts.texts]
        with quiet_transformers():
            rows = model.tokenizer(self.texts, truncation=True, max_length=model.max_seq_length)
        self.lengths = [len(ids) for ids in rows["input_ids"]]

    @property
    def module(self) -> nn.Module:
        """See `TunedEncoder`."""
        return self.tower

    def phase(self) -> Phase:
        """See `TunedEncoder`."""
        config = self.config
        teacher = None
        if config.teacher is not None:
            options = EncoderOptions(encoder=config.teacher, device="cpu")
            encoder = build_encoder(options, self._data.progress)
            teacher = F.normalize(encoder.encode(self.texts), dim=1)
        return ContrastivePhase(self.tower, config, self._data.dataset, self.encode, teacher)

    def encode(self, items: Tensor) -> Tensor:
        """Encodes the texts of items chunk by chunk; only one chunk's activations are in memory.

        The others are computed again when their gradients are needed.
        Source: Gao et al. 2021 (arXiv 2101.06983), with the recomputation of torch's checkpoint.

        Shapes: items [M] item numbers -> [M, E].
        """
        rows = (items - 1).tolist()
        order: list[int] = []
        parts = []
        for chunk in text_batches([self.lengths[row] for row in rows], self.config.chunk):
            features = self._tokenise([self.texts[rows[place]] for place in chunk])
            if torch.is_grad_enabled():
                parts.append(checkpoint(self.tower.encode, features, use_reentrant=False))
            else:
                parts.append(self.tower.encode(features))
            order += chunk
        back = torch.tensor(order, device=self.device).argsort()
        return torch.cat(parts)[back]

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """See `TunedEncoder`. Finds each item's neighbours, to be drawn as negatives. Shapes: [N, E]."""
        self.tower.eval()
        vectors = self.encode(torch.arange(1, len(self.texts) + 1)).float()
        if self.config.negatives and len(vectors) > 1:
            k = self.tower.neighbours.shape[1]
            for rows in torch.arange(len(vectors), device=self.device).split(_BLOCK):
                scores = vectors[rows] @ vectors.T
                scores[torch.arange(len(rows), device=self.device), rows] = -torch.inf
                self.tower.neighbours[rows] = scores.topk(k).indices + 1
        return vectors.cpu()

    def save(self, folder: Path) -> None:
        """See `TunedEncoder`. Adapters are merged."""
        model = self.tower.model
        _merge_adapters(model)
        with quiet_transformers():
            model.save(str(folder), create_model_card=False)

    def _tokenise(self, texts: Sequence[str]) -> dict[str, Tensor]:
        with quiet_transformers():
            features = self.tower.model.preprocess(list(texts))
        return {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in features.items()
        }


def _load(name: str, config: TransformerTuningConfig, progress: Progress) -> Any:
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
    return model.train()


def _with_pooling(name: str, folder: Path, config: TransformerTuningConfig) -> Any:
    modes = {"mean": "mean", "last": "lasttoken", "cls": "cls"}
    model = load_pooled(name, folder, modes[config.pooling])
    tokenizer = model.tokenizer
    if tokenizer.pad_token is None:
        # Padded positions are masked, so any token can be the padding token.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return model


def _choose_parameters(model: Any, config: TransformerTuningConfig) -> None:
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


def _merge_adapters(network: nn.Module) -> None:
    """Adds low-rank adapters to the weights that they adapt, and removes them."""
    from peft.tuners.lora import LoraLayer

    for path, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            network.set_submodule(path, module.get_base_layer())
