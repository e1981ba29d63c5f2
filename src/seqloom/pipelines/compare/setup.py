"""How a run was made, from its manifest and configuration, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from seqloom.reports.data import Setup, TextKind
from seqloom.runs.folder import Run
from seqloom.runs.manifest import RunManifest

_PRETRAINED = ("sentence-transformers", "transformers", "openai")
"""Kinds of encoders that were trained on other texts."""


def describe_setup(run: Run) -> Setup:
    """Returns settings, encoder, hardware, epochs and what the run knows of texts."""
    manifest = run.manifest
    config = run.system.config.model_dump(mode="json")
    kind, reason = text_kind(manifest, config, counts_only=run.system.yardstick)
    return Setup(
        settings=dict(_flat(config)),
        encoder=_encoder(manifest, config),
        device=_device(manifest),
        epochs=_epochs(manifest),
        text_kind=kind,
        text_kind_reason=reason,
    )


def text_kind(
    manifest: RunManifest, config: Mapping[str, Any], *, counts_only: bool = False
) -> tuple[TextKind | None, str]:
    """Returns what a run knows of texts; None with a reason where that is unknown or has no place.

    The log tunes text where the encoder was tuned on it, or the system trains word vectors of its own.
    """
    if manifest.members:
        return None, "an ensemble of several runs"
    if counts_only:
        return None, "it only counts or looks up"
    if manifest.base is not None or manifest.system == "idgenrec":
        return "model", ""
    if manifest.text is not None:
        return _kind_of_vectors(manifest, config)
    words = config.get("words")
    if isinstance(words, Mapping):  # a system that reads the words itself
        return ("words" if words.get("start") == "random" else "tuned"), ""
    return "ids", ""


def _kind_of_vectors(
    manifest: RunManifest, config: Mapping[str, Any]
) -> tuple[TextKind | None, str]:
    encoder = (manifest.text or {}).get("encoder") or {}
    semantic = config.get("semantic")
    if encoder.get("tuned_on") or (
        isinstance(semantic, Mapping) and semantic.get("encoder") == "tower"
    ):
        return "tuned", ""
    if encoder.get("kind") == "hash":
        return "words", ""
    if encoder.get("kind") in _PRETRAINED:
        return "pretrained", ""
    return None, "its manifest does not tell by which encoder its text vectors were made"


def _encoder(manifest: RunManifest, config: Mapping[str, Any]) -> str:
    if manifest.base is not None:
        return f"{manifest.base['name']} ({manifest.base['num_layers']} layers)"
    if manifest.text is not None:
        encoder = manifest.text.get("encoder") or {}
        name = encoder.get("name") or encoder.get("model") or encoder.get("kind", "unknown")
        tuned = ", tuned by the log" if encoder.get("tuned_on") else ""
        return f"{name}{tuned}, {manifest.text.get('width', '?')} dimensions"
    words = config.get("words")
    if isinstance(words, Mapping):
        return f"own word vectors, {words.get('start')} start"
    return ""


def _device(manifest: RunManifest) -> str:
    cost = manifest.cost
    threads = f", {cost.threads} thread{'s' * (cost.threads != 1)}" if cost.threads else ""
    processes = f", {cost.processes} processes" if cost.processes > 1 else ""
    return f"{cost.device}{threads}{processes}"


def _epochs(manifest: RunManifest) -> str:
    if not manifest.cost.epochs:
        return ""
    kept = ""
    if manifest.best_epoch is not None:
        phase = f" of {manifest.best_phase}" if manifest.best_phase not in (None, "train") else ""
        kept = f", kept {manifest.best_epoch}{phase}"
    return f"{manifest.cost.epochs}{kept}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
