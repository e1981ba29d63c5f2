"""Resolves the name of a language model to its folder, and hashes its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from seqloom.core.errors import AssetError
from seqloom.core.files import sha256_file
from seqloom.core.progress import SILENT, Progress
from seqloom.core.suggestions import suggest
from seqloom.hub.assets import ASSETS, resolve
from seqloom.hub.gguf import convert_gguf
from seqloom.hub.model_files import WEIGHTS, check_model_files, sentence_modules
from seqloom.hub.snapshots import download_snapshot


def model_folder(name_or_path: str | Path, progress: Progress = SILENT) -> Path:
    """Returns the local folder (configuration, tokenizer, weights) of a model, after `check_model_files`.

    `name_or_path` is a local folder, a GGUF file (or a folder with one and no configuration), a
    named asset, or a name on the Hugging Face hub.

    Raises:
        AssetError: the model cannot be found, fetched or read, contains code, or has pickled weights alone.
    """
    given = str(name_or_path)
    path = Path(given).expanduser()
    if path.exists() and given not in ASSETS:
        return _local(path, progress)
    if given in ASSETS:
        return _local(resolve(given, progress=progress), progress)
    if given.startswith((".", "/", "~")) or given.endswith(".gguf"):
        raise AssetError(f"{given} does not exist; give a model's folder or GGUF file")
    try:
        return _checked(download_snapshot(given))
    except AssetError as error:
        hint = suggest(given, _named()) or f"; the named models are {', '.join(_named())}"
        raise AssetError(f"{error}{hint}") from None


def weights_hash(folder: Path) -> str:
    """Computes a SHA-256 over the weight files of a model folder and its modules, by name and content.

    Configuration and tokenizer files do not count: libraries rewrite them without changing weights.

    Raises:
        AssetError: the folder holds no weights.
    """
    digest = hashlib.sha256()
    parts = dict.fromkeys([folder, *sentence_modules(folder)])
    by_format = ([file for part in parts for file in sorted(part.glob(p))] for p in WEIGHTS)
    files = next(filter(None, by_format), [])
    if not files:
        raise AssetError(f"{folder} holds no weights ({', '.join(WEIGHTS)})")
    for file in files:
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name}\n{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def _named() -> list[str]:
    return [name for name, asset in ASSETS.items() if asset.hub is not None]


def _local(path: Path, progress: Progress) -> Path:
    if path.is_file():
        if path.suffix != ".gguf":
            raise AssetError(f"{path} is a file, but no .gguf; give the model's folder")
        return convert_gguf(path, progress)
    if (path / "config.json").exists() or (path / "modules.json").exists():
        return _checked(path)
    files = sorted(path.glob("*.gguf"))
    if len(files) != 1:
        raise AssetError(
            f"{path} holds no config.json and {len(files)} GGUF files; "
            f"give a model's folder or the GGUF file itself"
        )
    return convert_gguf(files[0], progress)


def _checked(folder: Path) -> Path:
    """Raises AssetError, see `check_model_files`."""
    if (folder / "adapter_config.json").exists():
        raise AssetError(
            f"{folder} holds an adapter (adapter_config.json), whose base model may lie anywhere; merge "
            "it into its base and give the merged model"
        )
    check_model_files(folder)
    return folder
