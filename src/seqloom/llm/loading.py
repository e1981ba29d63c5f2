"""Loads language models with their tokenizers."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any, Literal

import torch

from seqloom.core.errors import AssetError, ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.hub.model_files import check_model_files
from seqloom.hub.model_folders import model_folder
from seqloom.hub.pretrained import (
    check_finite,
    check_keys,
    load_pretrained,
    load_settings,
    reason,
)
from seqloom.hub.quiet import quiet_transformers
from seqloom.llm.reference import AdapterReference, read_adapter_reference

_Quantisation = Literal["8bit", "4bit"]
_RANDOM_SEED = 0


def load_causal_lm(
    name_or_path: str | Path,
    *,
    num_layers: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    quantise: _Quantisation | None = None,
    progress: Progress = SILENT,
) -> tuple[Any, Any]:
    """Loads a decoder-only language model in evaluation mode, and its tokenizer.

    `name_or_path` is a named asset, a local folder, a GGUF file, a name on the hub, or a folder with a
    PEFT adapter, which is merged into its base. `num_layers` keeps only the first transformer blocks (all
    by default). `dtype` is float32 by default. `quantise` loads the weights in 8 or 4 bits on a CUDA device.
    The tokenizer always has a padding token: the end-of-text token if the model has none of its own.

    Raises:
        AssetError: the model cannot be found or read, or is not a causal language model.
        ConfigError: `num_layers` is out of range, or 8 or 4 bits are not available here.
    """
    tuned = read_adapter_reference(name_or_path)
    if tuned is not None:
        return _load_tuned(tuned, num_layers, dtype, device, quantise, progress)
    options = _quantisation_options(quantise) if quantise else {}
    model, tokenizer = _load(
        "AutoModelForCausalLM", name_or_path, num_layers, dtype, options, progress
    )
    return (model if quantise else model.to(device)).eval(), tokenizer


def load_encoder_lm(
    name_or_path: str | Path, *, num_layers: int | None = None, progress: Progress = SILENT
) -> tuple[Any, Any]:
    """Loads a bidirectional encoder (BERT, MiniLM, ...) without a head, and its tokenizer.

    Raises:
        AssetError: the model cannot be found or read.
        ConfigError: `num_layers` is out of range.
    """
    model, tokenizer = _load("AutoModel", name_or_path, num_layers, None, {}, progress)
    return model.eval(), tokenizer


def reinitialise(model: Any) -> Any:
    """Returns a model of the same architecture with random weights from a fixed seed."""
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(_RANDOM_SEED)
        return type(model)(model.config).eval()


def _load(
    kind: str,
    name: str | Path,
    num_layers: int | None,
    dtype: torch.dtype | None,
    options: dict[str, Any],
    progress: Progress,
) -> tuple[Any, Any]:
    import transformers

    folder = model_folder(name, progress)
    config = load_settings(transformers.AutoConfig, folder, name)
    cut = keep_layers(config, num_layers, name)
    tokenizer = load_settings(transformers.AutoTokenizer, folder, name)
    model = load_pretrained(
        getattr(transformers, kind),
        folder,
        name,
        what="causal LM" if "Causal" in kind else "language model",
        cut=cut,
        config=config,
        dtype=dtype or torch.float32,
        **options,
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _load_tuned(
    tuned: AdapterReference,
    num_layers: int | None,
    dtype: torch.dtype | None,
    device: torch.device | str,
    quantise: _Quantisation | None,
    progress: Progress,
) -> tuple[Any, Any]:
    if quantise:
        raise ConfigError(
            f"{tuned.folder} is an adapter, which cannot be merged into 8 or 4 bits; "
            "make a merged model with `seqloom tune-llm --merge`"
        )
    if num_layers is not None and tuned.num_layers is not None and num_layers != tuned.num_layers:
        raise ConfigError(
            f"num_layers is {num_layers}; {tuned.folder} was tuned on {tuned.num_layers} layers, "
            "and its adapter fits that number only"
        )
    check_model_files(tuned.folder)
    model, tokenizer = load_causal_lm(
        tuned.base, num_layers=tuned.num_layers or num_layers, dtype=dtype, progress=progress
    )
    return _merged(model, tuned).to(device).eval(), tokenizer


def _merged(model: Any, tuned: AdapterReference) -> Any:
    """Merges the adapter into the model's weights.

    Raises:
        AssetError: the adapter cannot be read, or it and the model do not belong together.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    name = f"the adapter {tuned.folder}"
    try:
        with warnings.catch_warnings():
            # peft uses a deprecated name of transformers, and warns of missing weights: checked below.
            warnings.simplefilter("ignore")
            adapted = PeftModel.from_pretrained(model, str(tuned.folder), local_files_only=True)
        expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        with safe_open(tuned.folder / "adapter_model.safetensors", framework="pt") as handle:
            stored = set(handle.keys())
        # Fully trained layers; peft writes them under the model's own names.
        expected |= stored & {f"base_model.model.{key}" for key in model.state_dict()}
        merged = adapted.merge_and_unload()
    except Exception as error:
        raise AssetError(f"{name} cannot be loaded: {reason(error)}") from error
    check_keys(expected - stored, stored - expected, f"{name} over {tuned.base}")
    check_finite(merged, name)
    return merged


def _quantisation_options(bits: _Quantisation) -> dict[str, Any]:
    """Returns the arguments of `from_pretrained` that load 8 or 4 bits.

    Raises:
        ConfigError: there is no CUDA device, or bitsandbytes is not installed.
    """
    if not torch.cuda.is_available():
        raise ConfigError(
            f"quantise={bits} needs a CUDA GPU, and torch sees none; leave it out, and lower "
            "num_layers where memory is short"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"quantise={bits} needs the package bitsandbytes, which is not installed; "
            "`pip install 'seqloom[quantise]'`, or leave it out"
        )
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_8bit=bits == "8bit",
        load_in_4bit=bits == "4bit",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_type="nf4",
    )
    return {"quantization_config": settings, "device_map": {"": torch.cuda.current_device()}}


def keep_layers(config: Any, num_layers: int | None, name: str | Path) -> range:
    """Limits a model's configuration to its first layers; all if `num_layers` is None.

    Returns the numbers of the layers that are left out.

    Raises:
        ConfigError: the model has fewer layers.
    """
    if num_layers is None:
        return range(0)
    if not 1 <= num_layers <= config.num_hidden_layers:
        raise ConfigError(
            f"num_layers is {num_layers}; {name} has {config.num_hidden_layers} layers, "
            f"so 1 to {config.num_hidden_layers} are allowed"
        )
    cut = range(num_layers, config.num_hidden_layers)
    config.num_hidden_layers = num_layers
    if config.is_encoder_decoder:
        config.num_decoder_layers = num_layers
    # Models with several kinds of attention list the kind of each layer.
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]
    return cut
