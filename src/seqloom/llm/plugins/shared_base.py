"""A frozen language model that any number of LoRA adapters share in memory."""

from __future__ import annotations

import hashlib
import itertools
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.llm.config import LanguageModelConfig, LoraSettings
from seqloom.llm.loading import load_causal_lm, load_encoder_lm, reinitialise
from seqloom.llm.reference import BaseReference, weights_sha256
from seqloom.llm.sharding import shard_layers
from seqloom.nn.dropout import Dropout
from seqloom.nn.linear import use_onednn

# Names of feed-forward layers in common architectures; the first set that a model has is used.
_FEED_FORWARD = (
    ("gate_proj", "up_proj", "down_proj"),
    ("gate_up_proj", "down_proj"),
    ("fc1", "fc2"),
    ("c_fc", "c_proj"),
    ("dense_h_to_4h", "dense_4h_to_h"),
    ("intermediate.dense", "output.dense"),
)


class SharedBase:
    """A frozen language model to which plug-ins add adapters; its weights are in memory once.

    It is deliberately not a torch module, so that a system that uses it neither saves nor trains its weights.
    A call that runs under one adapter holds the lock, so that threads with different adapters do not mix.
    """

    def __init__(
        self, config: LanguageModelConfig, model: Any, tokenizer: Any, sha256: str
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.backbone: Any = model.base_model if config.kind == "causal" else model
        self.head: Any = model.get_output_embeddings() if config.kind == "causal" else None
        self.module_path = f"{model.base_model_prefix}." if config.kind == "causal" else ""
        self.reference = BaseReference(
            name=config.name, sha256=sha256, num_layers=model.config.num_hidden_layers
        )
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        use_onednn(model)
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._layers: dict[str, Any] = {}
        self._tokens: dict[tuple[torch.device, tuple[int, ...]], Tensor] = {}
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        self._retired: list[str] = []
        self._active: tuple[str | None, bool] | None = None

    @property
    def width(self) -> int:
        """D, width of the states."""
        return int(self.backbone.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(iter(self.backbone.parameters())).device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the input embeddings."""
        dtype: torch.dtype = self.backbone.get_input_embeddings().weight.dtype
        return dtype

    def move_to(self, device: torch.device) -> None:
        """Moves the weights to `device`, in the number format that the configuration sets for it.

        Raises:
            ConfigError: other plug-ins use the model on another device.
        """
        with self._lock:
            if self.config.quantise is None and device != self.device:
                self._clean()
                if len(self.users) > 1:
                    raise ConfigError(
                        f"the language model {self.reference.name} is in use on {self.device} by "
                        f"other plug-ins; load this one there too, not on {device}"
                    )
                self.backbone.to(device)
                if self.head is not None:
                    self.head.to(device)
            self._cast(self._dtype(device))

    def shard(self, device: torch.device) -> None:
        """Shards the weights over the processes of the group; see `shard_layers`.

        Raises:
            ConfigError: other plug-ins use it, it is in 8 or 4 bits, or its layers are not known.
        """
        with self._lock:
            self._clean()
            if len(self.users) > 1 or self.config.quantise is not None:
                raise ConfigError(
                    f"the language model {self.reference.name} is used by other plug-ins too, or in 8 or 4 "
                    "bits; only an unshared one in 16 or 32 bits can be sharded over processes"
                )
            # Later calls of `load_shared_base` must load a whole model.
            for key in [key for key, model in _LOADED.items() if model is self]:
                del _LOADED[key]
            self._cast(self._dtype(device))
            adapters = [p for path, p in self.backbone.named_parameters() if "lora_" in path]
            shard_layers(self.backbone, device, adapters)

    def embed(self, tokens: list[int]) -> Tensor:
        """Embeds tokens, such as a prompt's; their numbers stay on the device. Shapes: T tokens -> [T, D]."""
        table = self.backbone.get_input_embeddings()
        device = table.weight.device
        numbers = self._tokens.get((device, tuple(tokens)))
        if numbers is None:
            with torch.inference_mode(False):  # training may use them later
                numbers = torch.tensor(tokens, dtype=torch.int64, device=device)
            self._tokens[device, tuple(tokens)] = numbers
        vectors: Tensor = table(numbers)
        return vectors

    def add_adapter(self, settings: LoraSettings) -> tuple[str, dict[str, nn.Parameter]]:
        """Adds an adapter; returns its name and its trainable parameters by path.

        Raises:
            ConfigError: no layer of the model matches `settings.targets`.
        """
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

        with self._lock:
            self._clean()
            name = f"plugin{next(self._numbers)}"
            lora = LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                lora_dropout=settings.dropout,
                target_modules=self.targets(settings),
            )
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`")
                inject_adapter_in_model(lora, self.backbone, adapter_name=name)
            self._layers = {
                path: layer
                for path, layer in self.backbone.named_modules()
                if isinstance(layer, LoraLayer)
            }
            for layer in self._layers.values():
                layer.lora_dropout[name] = Dropout(settings.dropout)  # in place of torch's
            use_onednn(self.backbone)
            self._active = None
            return name, dict(self._parameters(name))

    def remove_adapter(self, name: str) -> None:
        """Schedules an adapter for removal before the next use of the model. Safe at any time."""
        self._retired.append(name)

    @contextmanager
    def activate(self, name: str | None, *, training: bool) -> Iterator[Any]:
        """Yields the backbone with one adapter active (or none), for exclusive use within the block."""
        with self._lock:
            self._clean()
            if self._active != (name, training):
                for layer in self._layers.values():
                    layer.set_adapter([] if name is None else [name])
                    if name in layer.lora_dropout:
                        layer.lora_dropout[name].train(training)
                self._active = (name, training)
            yield self.backbone

    def targets(self, settings: LoraSettings) -> list[str]:
        """Returns the full names of the layers that get an adapter.

        Raises:
            ConfigError: no set of names matches the model's layers.
        """
        linear = [
            path
            for path, module in self.backbone.named_modules()
            if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
            and "lora_" not in path
        ]
        linear = sorted({path.removesuffix(".base_layer") for path in linear})
        candidates = [tuple(settings.targets)] if settings.targets else list(_FEED_FORWARD)
        for ends in candidates:
            paths = [p for p in linear if any(p == end or p.endswith(f".{end}") for end in ends)]
            if {end for end in ends if any(p.endswith(end) for p in paths)} == set(ends):
                return paths
        have = sorted({path.rpartition(".")[2] for path in linear})
        raise ConfigError(
            f"{self.reference.name} has no layers named {candidates[0] if settings.targets else 'as usual'}"
            f"; set lora.targets to some of: {', '.join(have)}"
        )

    def _parameters(self, name: str) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields an adapter's parameters by path, made trainable and float32."""
        for path, layer in self._layers.items():
            for part in ("lora_A", "lora_B"):
                maps = getattr(layer, part)
                if name in maps:
                    parameter = maps[name].weight
                    parameter.data = parameter.data.float()
                    parameter.requires_grad_(True)
                    yield f"{path}.{part}", parameter

    def _clean(self) -> None:
        """Deletes the adapters scheduled for removal."""
        while self._retired:
            name = self._retired.pop()
            for layer in self._layers.values():
                layer.set_adapter([])
                layer.delete_adapter(name)
            self._active = None

    def _dtype(self, device: torch.device) -> torch.dtype:
        setting = self.config.dtype
        half = setting == "bfloat16" or (setting == "auto" and device.type == "cuda")
        return torch.bfloat16 if half else torch.float32

    def _cast(self, dtype: torch.dtype) -> None:
        """Casts the base's weights. Adapters and buffers (rotary frequencies) stay in float32."""
        if self.config.quantise is not None:
            return
        heads = [] if self.head is None else list(self.head.named_parameters())
        for path, parameter in [*self.backbone.named_parameters(), *heads]:
            if "lora_" not in path and parameter.dtype != dtype:
                parameter.data = parameter.data.to(dtype)


_LOADED: weakref.WeakValueDictionary[tuple[Any, ...], SharedBase] = weakref.WeakValueDictionary()
_LOADING = threading.Lock()


def load_shared_base(config: LanguageModelConfig, progress: Progress = SILENT) -> SharedBase:
    """Returns the base of `config`: the one in memory if it is in use, else loads it.

    Raises:
        AssetError: the model cannot be found or read.
        ConfigError: `num_layers` is out of range, or 8 or 4 bits are not available here.
    """
    sha256 = weights_sha256(config.name, progress)
    key = (sha256, config.num_layers, config.kind, config.start, config.dtype, config.quantise)
    with _LOADING:
        base = _LOADED.get(key)
        if base is None:
            base = _load(config, sha256, progress)
            _LOADED[key] = base
        return base


def _load(config: LanguageModelConfig, sha256: str, progress: Progress) -> SharedBase:
    if config.kind == "bidirectional":
        if config.quantise:
            raise ConfigError("quantise is for causal language models; leave it out")
        model, tokenizer = load_encoder_lm(
            config.name, num_layers=config.num_layers, progress=progress
        )
    else:
        model, tokenizer = load_causal_lm(
            config.name,
            num_layers=config.num_layers,
            quantise=config.quantise,
            progress=progress,
        )
    if config.start == "random":
        if config.quantise:
            raise ConfigError("start=random and quantise exclude each other; leave one out")
        model = reinitialise(model)
        sha256 = _tensors_sha256(model)
    return SharedBase(config, model, tokenizer, sha256)


def _tensors_sha256(model: nn.Module) -> str:
    """Hashes weights in memory, for models without a file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}:{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
