"""Starts a server from a settings file and command-line settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqloom.core.config import apply_overrides, read_config_file
from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.serving.config import ServerConfig
from seqloom.serving.naming import name_runs

if TYPE_CHECKING:
    from seqloom.serving.server import Server


def read_settings(
    file: Path | None, overrides: Sequence[str], given: Mapping[str, Any]
) -> ServerConfig:
    """Merges a file's settings, those `given` (None: not given) and `key=value` overrides.

    Raises:
        ConfigError: a setting is unknown or out of its range.
    """
    for override in overrides:
        if "://" in override.partition("=")[0]:  # not repeated: it may hold a password
            raise ConfigError("--set takes KEY=VALUE; name the store with --store URL")
    urls = [override.partition("=")[2] for override in overrides if _names_store(override)]
    overrides = [override for override in overrides if not _names_store(override)]
    values = read_config_file(file) if file is not None else {}
    if not isinstance(values.get("store", ""), str):  # not repeated, for the same reason
        raise ConfigError("invalid ServerConfig:\n  store: a URL is needed, such as sqlite:///FILE")
    for key, value in given.items():
        if isinstance(value, Mapping):
            values[key] = {**(values.get(key) or {}), **value}
        elif value is not None:
            values[key] = value
    # The store's URL is not parsed as YAML: an error message would repeat it.
    stores = {"store": urls[-1].strip()} if urls else {}
    return ServerConfig.build({**apply_overrides(values, overrides), **stores})


def _names_store(override: str) -> bool:
    return override.partition("=")[0].strip() == "store"


def start(
    runs: Sequence[str],
    config: ServerConfig,
    *,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Server:
    """Opens everything and listens.

    Raises:
        ConfigError: the web framework is not installed, or two runs have one name.
        SeqloomError: what `Server` raises.
    """
    try:
        from seqloom.serving.server import Server
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("fastapi", "uvicorn", "prometheus_client"):
            raise
        raise ConfigError(
            f"serving needs {error.name}; install it with pip install 'seqloom[serve]'"
        ) from None
    return Server(name_runs(runs), config, device=device, progress=progress)
