"""Builds text encoders from options or from provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqloom.core.errors import ArtefactError, ConfigError, EmbeddingError
from seqloom.core.progress import SILENT, Progress
from seqloom.hub.model_folders import model_folder
from seqloom.text.encoders.base import TextEncoder
from seqloom.text.options import EncoderOptions
from seqloom.text.tuned_manifest import read_tuned_manifest
from seqloom.text.words.vocabulary import WORDS


def build_encoder(options: EncoderOptions, progress: Progress = SILENT) -> TextEncoder:
    """Builds an encoder from options. Fetches its model, which is loaded on first use.

    Raises:
        ConfigError: an option does not fit the encoder, or an endpoint's URL is not set.
        AssetError: the model does not exist or cannot be fetched.
        ArtefactError: it is an encoder whose tuning has not ended.
    """
    kind, _, rest = options.encoder.partition(":")
    if kind == "hash":
        from seqloom.text.encoders.hashing import HashEncoder

        _refuse(options, "pooling", "batch_size", "max_tokens", "requests_per_minute", "dtype")
        if rest and not (rest.isdecimal() and int(rest) > 0):
            raise ConfigError(f"encoder {options.encoder!r}: write hash:WIDTH, such as hash:256")
        return HashEncoder(int(rest)) if rest else HashEncoder()
    if kind == "openai":
        from seqloom.text.encoders.endpoint import EndpointEncoder

        _refuse(options, "pooling", "max_tokens", "dtype")
        if not rest:
            raise ConfigError(f"encoder {options.encoder!r}: write openai:MODEL")
        return EndpointEncoder(
            rest, requests_per_minute=options.requests_per_minute, **_given(options, "batch_size")
        )
    _refuse(options, "requests_per_minute")
    path = Path(options.encoder).expanduser()
    _check_finished(path)
    if (path / WORDS).exists():
        from seqloom.text.encoders.words import WordEncoder

        _refuse(options, "pooling", "batch_size", "max_tokens", "dtype")
        return WordEncoder(options.encoder, path)
    folder = model_folder(options.encoder, progress)
    shared = {
        "device": options.device,
        "dtype": options.dtype,
        **_given(options, "batch_size", "max_tokens"),
    }
    if options.pooling is None and (folder / "modules.json").exists():
        from seqloom.text.encoders.sentence import SentenceEncoder

        return SentenceEncoder(options.encoder, folder, **shared)
    from seqloom.text.encoders.hf_lm import LanguageModelEncoder

    return LanguageModelEncoder(options.encoder, folder, **shared, **_given(options, "pooling"))


def rebuild_encoder(provenance: Mapping[str, Any], progress: Progress = SILENT) -> TextEncoder:
    """Builds the encoder of stored vectors from its provenance, so that new vectors are comparable.

    Raises:
        AssetError: its model does not exist or cannot be fetched.
        EmbeddingError: the encoder differs from that of the vectors (other weights, another version).
    """
    kind = provenance.get("kind")
    if kind == "hash":
        options = EncoderOptions(encoder=f"hash:{provenance['width']}")
    elif kind == "openai":
        options = EncoderOptions(encoder=f"openai:{provenance['model']}")
    elif kind == "words":
        options = EncoderOptions(encoder=provenance["name"])
    elif kind in ("sentence-transformers", "transformers"):
        not_options = {"kind", "weights_sha256", "name", "tuned_on"}
        kept = {name: value for name, value in provenance.items() if name not in not_options}
        # Sentence models record the number format where it is not float32.
        options = EncoderOptions.build({"encoder": provenance["name"], "dtype": "float32", **kept})
    else:
        raise EmbeddingError(
            f"this version of seqloom has no encoder of kind {kind!r}; embed the data set and train again"
        )
    encoder = build_encoder(options, progress)
    current = encoder.provenance()
    if current != dict(provenance):
        changed = ", ".join(k for k in provenance if current.get(k) != provenance[k])
        raise EmbeddingError(
            f"the encoder {options.encoder!r} is no longer the one that made the vectors (changed: "
            f"{changed}); embed the data set and train again"
        )
    return encoder


def _check_finished(folder: Path) -> None:
    """Raises ArtefactError if a folder holds an encoder whose tuning has not ended."""
    tuned = read_tuned_manifest(folder)
    if tuned is not None and tuned.status != "complete":
        raise ArtefactError(
            f"{folder} is not finished; resume it with `seqloom tune-encoder ... --out {folder} --resume`"
        )


def _given(options: EncoderOptions, *names: str) -> dict[str, Any]:
    """Returns the options of `names` that are set, as keyword arguments."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _refuse(options: EncoderOptions, *names: str) -> None:
    """Refuses options that this kind of encoder would ignore."""
    defaults = type(options).model_fields
    for name in names:
        if getattr(options, name) != defaults[name].default:
            raise ConfigError(
                f"option {name} has no meaning for the encoder {options.encoder!r}; leave it out"
            )
