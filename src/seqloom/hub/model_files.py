"""Checks a model folder before any library reads it: it must not run code or hold pickled weights alone.

The libraries have options for both, but the defaults change between versions, and some settings files name
Python objects. So a folder is checked here first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from seqloom.core.errors import AssetError

WEIGHTS = ("*.safetensors", "*.gguf")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib")
_OTHER_WEIGHTS = (*_PICKLED, "*.h5", "*.msgpack")
# Tables of a tokenizer: large, and no library reads settings from them.
_TABLES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
_MODULE = re.compile(
    r"sentence_transformers\.(models|base\.modules|sentence_transformer\.modules)(\.[a-z_]+)?\."
    r"(Transformer|Pooling|Normalize|Dense|Dropout|LayerNorm|WeightedLayerPooling|StaticEmbedding|CNN|LSTM)"
)
_ACTIVATION = re.compile(r"torch\.nn(\.modules\.(activation|linear))?\.[A-Za-z0-9]+")
# Arguments of `from_pretrained` that a settings file must not set: code, pickles, other files.
_ARGUMENTS = frozenset(
    [
        "trust_remote_code",
        "use_safetensors",
        "weights_only",
        "gguf_file",
        "subfolder",
        "state_dict",
        "adapter_kwargs",
        "tokenizer_name_or_path",
    ]
)


def check_model_files(folder: Path) -> None:
    """Refuses a model folder from which a library would run code or read a pickle.

    Safetensors beside pickles are allowed: loaders are called with options that make them read safetensors.

    Raises:
        AssetError: a settings file cannot be read, names Python code or a path outside the folder, or all
            weights are pickled.
    """
    for part in _parts(folder):
        for file in sorted(part.glob("*.json")):
            if file.name.endswith(".index.json"):
                _check_index(file)
            elif file.name not in _TABLES:
                _check_settings(file)
        _check_weights(part)


def settings(file: Path) -> Any:
    """Reads a model's JSON file.

    Raises:
        AssetError: the file cannot be read.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AssetError(f"{file} cannot be read as JSON: {error}; fetch the model again") from None


def sentence_modules(folder: Path) -> list[Path]:
    """Returns the folders of a sentence-transformers model's modules, in order; empty for other models.

    Raises:
        AssetError: `modules.json` is damaged, or names a module that is not allowed or lies outside.
    """
    file = folder / "modules.json"
    if not file.exists():
        return []
    modules = settings(file)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise AssetError(f"{file} holds no list of modules; fetch the model again")
    return [_module_folder(file, module) for module in modules]


def _module_folder(file: Path, module: dict[str, Any]) -> Path:
    kind, path = module.get("type"), module.get("path", "")
    if not isinstance(kind, str) or not _MODULE.fullmatch(kind):
        raise AssetError(
            f"{file} requests the module {kind!r}; only modules of sentence-transformers itself "
            "(Transformer, Pooling, Dense, Normalize, ...) are loaded, and code from a model folder is "
            "never run. Take a model without modules of its own"
        )
    name = PurePosixPath(path) if isinstance(path, str) else PurePosixPath("/")
    if name.is_absolute() or ".." in name.parts or "\\" in str(path):
        raise AssetError(f"{file} names the folder {path!r}, which lies outside the model's folder")
    return file.parent / name


def _parts(folder: Path) -> list[Path]:
    """Returns the folder and those of its modules."""
    return list(dict.fromkeys([folder, *sentence_modules(folder)]))


def _check_settings(file: Path) -> None:
    for key, value in _entries(settings(file), file):
        if key == "auto_map" and value:
            raise AssetError(
                f"{file} has auto_map: the model brings its own Python code, which is never run. If "
                "transformers knows the architecture itself, remove auto_map from the file; else take "
                "another model"
            )
        if key in _ARGUMENTS and value is not None and value is not False:
            raise AssetError(
                f"{file} sets {key}, which a model folder may not decide; remove it from the file"
            )
        if key.endswith("_implementation") and any("/" in text for text in _texts(value)):
            raise AssetError(
                f"{file} sets {key} to {value!r}, code from a hub, which is never run; remove it from "
                "the file"
            )
        if key == "activation_function" and not _is_activation(file, value):
            raise AssetError(
                f"{file} requests the activation function {value!r}; only classes of torch.nn are loaded"
            )


def _is_activation(file: Path, value: Any) -> bool:
    """Returns whether a value is a plain name, as in transformers, or the path of a class of torch.nn."""
    return not isinstance(value, str) or "." not in value or bool(_ACTIVATION.fullmatch(value))


def _entries(value: Any, file: Path) -> Iterator[tuple[str, Any]]:
    """Yields every key with its value, at any depth."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _texts(value: Any) -> list[str]:
    values = value.values() if isinstance(value, dict) else [value]
    return [text for text in values if isinstance(text, str)]


def _check_index(file: Path) -> None:
    """Checks a weight index: it could name any file, which a library would read by its suffix."""
    index = settings(file)
    names = index.get("weight_map", {}) if isinstance(index, dict) else {}
    if not isinstance(names, dict):
        raise AssetError(f"{file} holds no weight_map; fetch the model again")
    ending = ".safetensors" if ".safetensors." in file.name else None
    for name in set(map(str, names.values())):
        if PurePosixPath(name).name != name or (ending and not name.endswith(ending)):
            raise AssetError(
                f"{file} names the weight file {name!r}; only .safetensors files of the same folder are read"
            )


def _check_weights(folder: Path) -> None:
    if any(True for pattern in WEIGHTS for _ in folder.glob(pattern)):
        return
    others = sorted(file.name for pattern in _OTHER_WEIGHTS for file in folder.glob(pattern))
    if others:
        raise AssetError(
            f"{folder} holds its weights as {', '.join(others[:3])} alone; only .safetensors and .gguf files "
            "are read, because a pickle (.bin, .pt, ...) can run code. Take a version of the model with "
            "safetensors, or, if you trust its origin, convert it once elsewhere: load it with its library "
            "and write it with save_pretrained, which makes model.safetensors"
        )
