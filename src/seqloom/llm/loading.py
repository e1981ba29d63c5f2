"""Loading a causal language model and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from seqloom.core.errors import AssetError, ConfigError
from seqloom.core.models import model_folder, weights_hash
from seqloom.core.progress import SILENT, Progress
from seqloom.core.quiet import quiet_transformers


def load_causal_lm(
    name_or_path: str | Path,
    *,
    num_layers: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> tuple[Any, Any]:
    """A decoder-only language model in evaluation mode, and its tokenizer.

    `name_or_path` is a named asset, a local folder, a GGUF file or a name on the hub. `num_layers`
    keeps the first so many transformer blocks (all by default). `dtype` is float32 by default. The
    tokenizer always has a padding token: the end-of-text token where the model has none of its own.

    Raises:
        AssetError: the model cannot be found or read, or is no causal language model.
        ConfigError: `num_layers` is out of range.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = model_folder(name_or_path, progress)
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder)
            _keep_layers(config, num_layers, name_or_path)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=dtype or torch.float32
            )
        except (ValueError, OSError, KeyError, RuntimeError) as error:
            raise AssetError(f"{name_or_path} cannot be loaded as a causal LM: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device).eval(), tokenizer


def base_hash(folder: str | Path) -> str:
    """SHA-256 that pins the weights of the model in `folder`; an adapter records what it fits.

    Raises:
        AssetError: the folder holds no weights.
    """
    return weights_hash(Path(folder))


def _keep_layers(config: Any, num_layers: int | None, name: str | Path) -> None:
    if num_layers is None:
        return
    if not 1 <= num_layers <= config.num_hidden_layers:
        raise ConfigError(
            f"num_layers is {num_layers}; {name} has {config.num_hidden_layers} layers, "
            f"so 1 to {config.num_hidden_layers} are allowed"
        )
    config.num_hidden_layers = num_layers
    # Models that mix kinds of attention list one kind a layer.
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]
