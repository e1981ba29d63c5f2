"""References to the base model of an adapter or plug-in: its name and a hash of its weights."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from seqloom.core.config import Config
from seqloom.core.errors import AssetError
from seqloom.core.files import read_json, sha256_text
from seqloom.core.progress import SILENT, Progress
from seqloom.hub.model_folders import model_folder, weights_hash

TUNED_FILE = "tuned.json"
_ADAPTER_FILE = "adapter_config.json"


class BaseReference(Config):
    """The base language model that an adapter was trained on."""

    name: str
    """Its name at that time: an asset, a folder, a file or a name on the hub."""
    sha256: str
    """Hash of its weights; bases with equal hashes are equal."""
    num_layers: int
    """Number of layers used."""


class AdapterReference(Config):
    """An adapter folder's reference to its base."""

    folder: Path
    base: str
    """Name of the base."""
    num_layers: int | None = None
    """Number of layers that the adapter was trained on; None if unknown."""
    sha256: str | None = None
    """Hash of the base's weights; None if seqloom did not write the adapter."""


def read_adapter_reference(name_or_path: str | Path) -> AdapterReference | None:
    """Reads the base of the PEFT adapter folder `name_or_path`; None if it is not an adapter folder.

    Raises:
        AssetError: the folder does not name its base, or is its own base.
    """
    tuned = below = _read_tuned(name_or_path)
    seen: set[Path] = set()
    while below is not None:
        if below.folder.resolve() in seen:
            raise AssetError(
                f"{name_or_path} is an adapter whose base is itself; name its base model"
            )
        seen.add(below.folder.resolve())
        below = _read_tuned(below.base)
    return tuned


def _read_tuned(name_or_path: str | Path) -> AdapterReference | None:
    folder = Path(name_or_path).expanduser()
    if not (folder / _ADAPTER_FILE).exists():
        return None
    own = folder / TUNED_FILE
    if own.exists():
        base: dict[str, Any] = read_json(own, "tuned language model")["base"]
        return AdapterReference(
            folder=folder, base=base["name"], num_layers=base["num_layers"], sha256=base["sha256"]
        )
    settings = read_json(folder / _ADAPTER_FILE, "adapter")
    name = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    if not isinstance(name, str) or not name:
        raise AssetError(f"{folder} is an adapter that does not name its base; merge it first")
    return AdapterReference(folder=folder, base=name)


def weights_sha256(name_or_path: str | Path, progress: Progress = SILENT) -> str:
    """Computes a SHA-256 of the weights behind a name: of the files, and of an adapter's base.

    Raises:
        AssetError: the model cannot be found, or an adapter's base has changed since training.
    """
    tuned = read_adapter_reference(name_or_path)
    if tuned is None:
        folder = model_folder(name_or_path, progress)
        stamps = tuple(sorted((p.name, p.stat().st_mtime_ns) for p in folder.glob("*.*")))
        return _hash_cached(folder, stamps)
    base = weights_sha256(tuned.base, progress)
    if tuned.sha256 is not None and base != tuned.sha256:
        raise AssetError(
            f"{tuned.folder} was tuned on a language model with weights {tuned.sha256[:12]}, but "
            f"{tuned.base} now has {base[:12]}; tune it again, or restore the old base"
        )
    return sha256_text(base, weights_hash(tuned.folder))


@lru_cache(maxsize=16)
def _hash_cached(folder: Path, stamps: tuple[tuple[str, int], ...]) -> str:
    """Hashes a folder's weights once: it takes a second, and a server may load ten plug-ins of one base."""
    return weights_hash(folder)
