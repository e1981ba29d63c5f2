"""How a run was made, from its manifest and configuration, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from seqloom.reports.data import Setup, TextKind
from seqloom.runs.folder import Run
from seqloom.runs.manifest import RunManifest
from seqloom.text.store import is_by_language_model

_PRETRAINED = ("sentence-transformers", "transformers", "openai")
"""Kinds of encoders that were trained on other texts."""


def describe_setup(run: Run) -> Setup:
    """Returns settings, encoder, hardware, epochs and what the run knows of texts."""
    manifest = run.manifest
    config = run.system.config.model_dump(mode="json")
    kind, reason = text_kind(
        manifest,
        config,
        counts_only=run.system.yardstick,
        uses_language_model=run.system.uses_language_model,
        reads_text=run.system.reads_text,
    )
    return Setup(
        settings=dict(_flat(config)),
        encoder=_encoder(manifest, config, uses_language_model=run.system.uses_language_model),
        device=_device(manifest),
        epochs=_epochs(manifest),
        text_kind=kind,
        text_kind_reason=reason,
    )


def holds_language_model(manifest: RunManifest) -> bool:
    """Returns whether a run has a language model or text vectors by one; False for ensembles."""
    if manifest.members:
        return False
    vectors = (is_by_language_model(t.get("language_model"), t["encoder"]) for t in manifest.texts)
    return manifest.base is not None or manifest.system == "idgenrec" or any(vectors)


def text_kind(
    manifest: RunManifest,
    config: Mapping[str, Any],
    *,
    counts_only: bool = False,
    uses_language_model: bool = True,
    reads_text: bool = True,
) -> tuple[TextKind | None, str]:
    """Returns what a run knows of texts; None with a reason where that is unknown or has no place.

    The log tunes text where the encoder was tuned on it, or the system trains word vectors of its own.

    Args:
        uses_language_model: whether one takes part; a run that holds one may have learned to leave it out.
        reads_text: whether texts decide the scores.
    """
    if manifest.members:
        return None, "an ensemble of several runs"
    if counts_only:
        return None, "it only counts or looks up"
    if uses_language_model and (manifest.base is not None or manifest.system == "idgenrec"):
        return "model", ""
    if not reads_text:
        return "ids", ""
    encoder = (manifest.text or {}).get("encoder") or {}
    if _view_is_tower(config):
        return ("tuned" if encoder.get("tuned_on") or uses_language_model else "words"), ""
    if manifest.text is not None:
        return _kind_of_vectors(encoder)
    words = _words(config)
    if words is not None:  # a system that reads the words itself
        return ("words" if words.get("start") == "random" else "tuned"), ""
    return "ids", ""


def _words(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the section of the words that a system, or a tower within it, reads."""
    for section in (config, config.get("tower"), (config.get("dense") or {}).get("tower")):
        words = (section or {}).get("words")
        if isinstance(words, Mapping):
            return words
    return None


def _view_is_tower(config: Mapping[str, Any]) -> bool:
    """Returns whether a text tower is one view of an LLM-ESR."""
    semantic = config.get("semantic")
    if not isinstance(semantic, Mapping) or config.get("views") == "collaborative":
        return False
    return semantic.get("encoder") == "tower"


def _kind_of_vectors(encoder: Mapping[str, Any]) -> tuple[TextKind | None, str]:
    if encoder.get("tuned_on"):
        return "tuned", ""
    if encoder.get("kind") == "hash":
        return "words", ""
    if encoder.get("kind") in _PRETRAINED:
        return "pretrained", ""
    return None, "its manifest does not tell by which encoder its text vectors were made"


def _encoder(manifest: RunManifest, config: Mapping[str, Any], *, uses_language_model: bool) -> str:
    if manifest.base is not None and uses_language_model:
        return f"{manifest.base['name']} ({manifest.base['num_layers']} layers)"
    if manifest.text is not None:
        encoder = manifest.text.get("encoder") or {}
        name = encoder.get("name") or encoder.get("model") or encoder.get("kind", "unknown")
        tuned = ", tuned by the log" if encoder.get("tuned_on") else ""
        return f"{name}{tuned}, {manifest.text.get('width', '?')} dimensions"
    words = _words(config)
    if words is not None:
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
