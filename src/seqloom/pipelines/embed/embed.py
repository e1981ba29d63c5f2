"""`seqloom embed`: makes text embeddings of the items and users of a data set."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from seqloom._version import __version__
from seqloom.core.errors import ArtefactError
from seqloom.core.files import sole_writer
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import merge_options, public_function
from seqloom.core.locks import writing
from seqloom.core.progress import Progress
from seqloom.data.store import Dataset
from seqloom.pipelines.embed.options import EmbedKeywords, EmbedOptions
from seqloom.text import store
from seqloom.text.embed_parts import EmbeddedPart, PartEmbedder, plan_items, plan_users
from seqloom.text.embedding_shards import ShardSet
from seqloom.text.encoders import TextEncoder, build_encoder
from seqloom.text.prompts import PromptTexts, item_prompts, user_prompts
from seqloom.text.store import TextManifest
from seqloom.text.tuned_manifest import holds_language_model, tuning_seconds


@dataclass(frozen=True)
class EmbedSummary:
    """The result of `embed`."""

    name: str
    path: str
    encoder: str
    items: int
    users: int
    """Rows of user embeddings; 0 where none were made."""
    width: int
    seconds: float
    encoded: int
    """Texts that were encoded in this call."""
    texts_per_s: float
    """`encoded` divided by the encoding time; 0 where all vectors were reused."""
    items_reused: bool
    users_reused: bool
    truncated: int
    """Texts that the encoder truncated."""
    without_text: int
    """Items without any text."""


@public_function(EmbedOptions)
def embed(
    dataset: Dataset | str | Path,
    options: EmbedOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = AUTO,
    encoder: str | TextEncoder | None = None,
    shards: ShardSet | None = None,
    **keywords: Unpack[EmbedKeywords],
) -> EmbedSummary:
    """Embeds the items and users of a data set into DATASET/text/<name>/.

    Reuses vectors that earlier calls made with the same encoder and texts, and resumes a killed call.
    The fields of `EmbedOptions` are keywords too. `encoder` is a name or an object, which replaces the one
    that `options` names. With `shards` (see `pipelines.embed.embed_shards`),
    all vectors come from them and no text is encoded.

    Raises:
        ConfigError: an option is out of range or does not fit the encoder.
        AssetError: the encoder's model does not exist or cannot be fetched.
        EmbeddingError: the encoder failed or returned no embedding.
        ArtefactError: other embeddings of that name exist and `overwrite` is false.
        LockedError: another process is making embeddings of that name or writing the data set.
    """
    started = time.perf_counter()
    named = {"encoder": encoder} if isinstance(encoder, str) else {}
    options = merge_options(EmbedOptions, options, {**keywords, **named})
    own = None if isinstance(encoder, str) else encoder
    if not isinstance(dataset, Dataset):
        dataset = Dataset.load(dataset)
    name = store.check_name(options.name or default_name(options.encoder))
    # Other processes may make other embeddings meanwhile, but must not replace the data set.
    with (
        writing(dataset.path, shared=True),
        sole_writer(dataset.path / "text" / name, progress),
    ):
        return _embed(dataset, options, name, own, shards, started, progress, overwrite)


def _embed(
    dataset: Dataset,
    options: EmbedOptions,
    name: str,
    encoder: TextEncoder | None,
    shards: ShardSet | None,
    started: float,
    progress: Progress,
    overwrite: bool,
) -> EmbedSummary:
    prompts = item_prompts(dataset, options.item_template)
    built = encoder is None
    encoder = encoder or build_encoder(options, progress)
    item_plan = plan_items(encoder, prompts)
    of_users = _user_prompts(dataset, options) if options.users == "prompt" else None
    user_plan = plan_users(dataset, encoder, item_plan, of_users, options.users)
    embedder = PartEmbedder(dataset, name, encoder, progress, shards)
    same = embedder.holds(item_plan, user_plan)
    if not same and not overwrite and embedder.path.exists():
        raise ArtefactError(
            f"{embedder.path} holds embeddings of another encoder, template or data; choose another "
            f"--name, or use --overwrite"
        )
    items = embedder.make("items", item_plan, dataset.item_ids)
    users = embedder.make_users(user_plan, items)
    manifest = TextManifest(
        seqloom=__version__,
        name=name,
        dataset=dataset.fingerprint,
        encoder=encoder.provenance(),
        tuning_seconds=tuning_seconds(options.encoder) if built else 0.0,
        language_model=holds_language_model(options.encoder) if built else None,
        width=items.vectors.shape[1],
        items=items.manifest,
        users=users.manifest if users else None,
    )
    if not (same and items.reused and (users is None or users.reused)):
        vectors = users.vectors if users else None
        store.write_embeddings(dataset, manifest, items.vectors, vectors, overwrite=True)
    if options.default:
        store.mark_default(dataset, name)
    embedder.clean()
    return _summary(manifest, embedder, items, users, time.perf_counter() - started)


def default_name(encoder: str) -> str:
    """Returns the default name of embeddings: the encoder's name without folder or organisation."""
    last = encoder.rstrip("/").rpartition("/")[2]
    return last.removesuffix(".gguf").replace(":", "-").lower()


def _user_prompts(dataset: Dataset, options: EmbedOptions) -> PromptTexts:
    return user_prompts(
        dataset,
        options.user_template,
        max_items=options.user_max_items,
        max_words=options.user_max_words,
    )


def _summary(
    manifest: TextManifest,
    embedder: PartEmbedder,
    items: EmbeddedPart,
    users: EmbeddedPart | None,
    seconds: float,
) -> EmbedSummary:
    parts = [part for part in (items, users) if part is not None]
    encoded = sum(part.encoded for part in parts)
    spent = sum(part.seconds for part in parts)
    return EmbedSummary(
        name=manifest.name,
        path=str(embedder.path),
        encoder=embedder.encoder.name,
        items=manifest.items.rows,
        users=manifest.users.rows if manifest.users else 0,
        width=manifest.width,
        seconds=seconds,
        encoded=encoded,
        texts_per_s=encoded / spent if encoded else 0.0,
        items_reused=items.reused,
        users_reused=users is not None and users.reused,
        truncated=sum(part.manifest.truncated for part in parts),
        without_text=manifest.items.without_text,
    )
