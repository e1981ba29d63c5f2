"""Systems by name. Importing this module loads no system; `system_class` imports one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqloom.core.errors import ConfigError
from seqloom.core.suggestions import suggest

if TYPE_CHECKING:
    from seqloom.systems.base import System
    from seqloom.systems.base_config import SystemConfig

_SYSTEMS = {
    "popularity": ("seqloom.systems.popularity:Popularity", "the most popular items"),
    "itemknn": ("seqloom.systems.itemknn:ItemKNN", "neighbours of the history's items"),
    "textknn": ("seqloom.systems.textknn:TextKNN", "items whose texts are near to the history's"),
    "texttower": (
        "seqloom.systems.texttower:TextTower",
        "histories and items as words alone, in two towers trained by the log",
    ),
    "graphknn": (
        "seqloom.systems.graphknn:GraphKNN",
        "items that followed the history's, and whose texts are near to it",
    ),
    "bpr": (
        "seqloom.systems.bpr:BPR",
        "matrix factorisation that ranks a user's items first, whatever their order",
    ),
    "sasrec": ("seqloom.systems.sasrec:SASRec", "causal transformer over item ids"),
    "gru4rec": ("seqloom.systems.gru4rec:GRU4Rec", "recurrent network over item ids"),
    "bert4rec": (
        "seqloom.systems.bert4rec:BERT4Rec",
        "transformer over item ids that sees both sides of a masked item",
    ),
    "bsarec": (
        "seqloom.systems.bsarec:BSARec",
        "causal transformer over item ids with a filter of frequencies",
    ),
    "llminit": (
        "seqloom.systems.llminit:LLMInit",
        "item table that starts as the principal components of the text",
    ),
    "melt": (
        "seqloom.systems.melt.system:MELT",
        "head users and items teach how to complete tail ones",
    ),
    "cities": (
        "seqloom.systems.cities.system:CITIES",
        "tail items' vectors inferred from the items around them",
    ),
    "llmesr": (
        "seqloom.systems.llmesr.system:LLMESR",
        "text and id views of the history, fused, with similar users as teachers",
    ),
    "e4srec": (
        "seqloom.systems.e4srec.system:E4SRec",
        "frozen language model that reads item ids; a run is a small plug-in",
    ),
    "idgenrec": (
        "seqloom.systems.idgenrec.system:IDGenRec",
        "items named by words, the next item's name written by a language model",
    ),
    "ensemble": (
        "seqloom.systems.ensemble.system:Ensemble",
        "trained runs, their scores summed with weights fitted on validation",
    ),
}


_CONFIGS = {
    "popularity": "seqloom.systems.config:PopularityConfig",
    "itemknn": "seqloom.systems.config:ItemKNNConfig",
    "textknn": "seqloom.systems.config:TextKNNConfig",
    "texttower": "seqloom.systems.config:TextTowerConfig",
    "graphknn": "seqloom.systems.config:GraphKNNConfig",
    "bpr": "seqloom.systems.config:BPRConfig",
    "sasrec": "seqloom.systems.config:SASRecConfig",
    "gru4rec": "seqloom.systems.config:GRU4RecConfig",
    "bert4rec": "seqloom.systems.config:BERT4RecConfig",
    "bsarec": "seqloom.systems.config:BSARecConfig",
    "llminit": "seqloom.systems.config:LLMInitConfig",
    "melt": "seqloom.systems.melt.config:MELTConfig",
    "cities": "seqloom.systems.cities.config:CITIESConfig",
    "llmesr": "seqloom.systems.llmesr.config:LLMESRConfig",
    "e4srec": "seqloom.systems.e4srec.config:E4SRecConfig",
    "idgenrec": "seqloom.systems.idgenrec.config:IDGenRecConfig",
    "ensemble": "seqloom.systems.ensemble.config:EnsembleConfig",
}
"""Configuration classes, in modules that do not import torch."""


def names() -> list[str]:
    """Returns the values of `--system`."""
    return list(_SYSTEMS)


def summary(name: str) -> str:
    """Returns a one-line description of a system."""
    return _entry(name)[1]


def system_class(name: str) -> type[System[Any]]:
    """Imports the class of a system.

    Raises:
        ConfigError: no system has this name.
    """
    cls: type[System[Any]] = _import(_entry(name)[0])
    return cls


def config_class(name: str) -> type[SystemConfig]:
    """Imports the configuration class of a system, without the system itself.

    Raises:
        ConfigError: no system has this name.
    """
    _entry(name)
    cls: type[SystemConfig] = _import(_CONFIGS[name])
    return cls


def _import(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def config_key_hint(
    keyword: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> str | None:
    """Explains an unknown keyword of a call `(data, system, ...)` that is a configuration key."""
    system = arguments[1] if len(arguments) > 1 else keywords.get("system")
    if system not in _SYSTEMS or keyword not in config_class(system).model_fields:
        return None
    return f"; it is a configuration key of {system}: config={{{keyword!r}: ...}}"


def _entry(name: str) -> tuple[str, str]:
    if name not in _SYSTEMS:
        hint = suggest(name, _SYSTEMS)
        raise ConfigError(f"there is no system {name!r}{hint} (allowed: {', '.join(_SYSTEMS)})")
    return _SYSTEMS[name]
