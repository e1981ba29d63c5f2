"""`seqloom embed`: text embeddings of a data set's items and users."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from seqloom import __version__
from seqloom.core.errors import ArtefactError
from seqloom.core.files import sole_writer
from seqloom.core.locks import writing
from seqloom.core.progress import SILENT, Progress
from seqloom.data.store import Dataset
from seqloom.text import store
from seqloom.text.embed_parts import EmbeddedPart, PartEmbedder, plan_items, plan_users
from seqloom.text.embedding_shards import ShardSet
from seqloom.text.encoders import TextEncoder, build_encoder
from seqloom.text.encoders.factory import EncoderOptions
from seqloom.text.prompts import PromptTexts, item_prompts, user_prompts
from seqloom.text.store import TextManifest, Users


class EmbedOptions(EncoderOptions):
    """What `embed` makes."""

    name: str | None = None
    """Name of the embeddings; by default the encoder's name."""
    item_template: str = "full"
    """`full` (every text column by name), `title`, a file, or a text with {column} placeholders."""
    user_template: str = "titles"
    """`titles`, a file, or a text with the placeholder {titles}."""
    users: Users = "prompt"
    """`prompt` encodes a text of the user's training items, `mean` averages their embeddings,
    `none` makes no user embeddings."""
    user_max_items: int = Field(default=20, ge=1)
    """A user's text has at most so many titles, the most recent ones."""
    user_max_words: int = Field(default=110, ge=1)
    """A user's titles have at most so many words; the oldest are left out first. The default keeps
    product titles within the 256 tokens that small sentence encoders read."""
    default: bool = False
    """Whether these become the embeddings that a training takes unasked."""


@dataclass(frozen=True)
class EmbedSummary:
    """What `embed` made, or found made."""

    name: str
    path: str
    encoder: str
    items: int
    users: int
    """Rows of user embeddings; 0 where none were made."""
    width: int
    seconds: float
    encoded: int
    """Texts that went through the encoder in this call."""
    texts_per_s: float
    """`encoded` over the time that encoding took; 0 where everything was reused."""
    items_reused: bool
    users_reused: bool
    truncated: int
    """Texts of which the encoder cut off the end."""
    without_text: int
    """Items without any text."""


def embed(
    dataset: Dataset | str | Path,
    options: EmbedOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
    encoder: TextEncoder | None = None,
    shards: ShardSet | None = None,
) -> EmbedSummary:
    """Embed the items and the users of a data set into DATASET/text/<name>/.

    What an earlier call has made with the same encoder and the same texts is reused, and a call
    that was killed goes on where it stopped. `encoder` stands in for the one that `options` names.
    With `shards` (see `pipelines.embed.embed_shards`) vectors come from these; nothing is encoded.

    Raises:
        ConfigError: an option is out of range or does not fit the encoder.
        AssetError: the encoder's model cannot be found or fetched.
        EmbeddingError: the encoder failed or returned no embedding.
        ArtefactError: other embeddings of that name exist and `overwrite` is false.
        LockedError: another process makes embeddings of that name, or writes the data set.
    """
    started = time.perf_counter()
    options = options or EmbedOptions()
    if not isinstance(dataset, Dataset):
        dataset = Dataset.load(dataset)
    name = store.check_name(options.name or default_name(options.encoder))
    # Other embeddings may be made at the same time; the data set itself must not be replaced.
    with (
        writing(dataset.path, shared=True),
        sole_writer(dataset.path / "text" / name, progress),
    ):
        return _embed(dataset, options, name, encoder, shards, started, progress, overwrite)


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
    encoder = encoder or build_encoder(options, progress)
    item_plan = plan_items(encoder, prompts)
    of_users = _user_prompts(dataset, options) if options.users == "prompt" else None
    user_plan = plan_users(dataset, encoder, item_plan, of_users, options.users)
    maker = PartEmbedder(dataset, name, encoder, progress, shards)
    same = maker.holds(item_plan, user_plan)
    if not same and not overwrite and maker.path.exists():
        raise ArtefactError(
            f"{maker.path} holds embeddings of another encoder, template or data; choose another "
            f"--name, or ask to --overwrite it"
        )
    items = maker.make("items", item_plan, dataset.item_ids)
    users = maker.make_users(user_plan, items)
    manifest = TextManifest(
        seqloom=__version__,
        name=name,
        dataset=dataset.fingerprint,
        encoder=encoder.provenance(),
        width=items.vectors.shape[1],
        items=items.manifest,
        users=users.manifest if users else None,
    )
    if not (same and items.reused and (users is None or users.reused)):
        vectors = users.vectors if users else None
        store.write_embeddings(dataset, manifest, items.vectors, vectors, overwrite=True)
    if options.default:
        store.mark_default(dataset, name)
    maker.clean()
    return _summary(manifest, maker, items, users, time.perf_counter() - started)


def default_name(encoder: str) -> str:
    """The name of embeddings where none is given: the encoder's, without its folder or maker."""
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
    maker: PartEmbedder,
    items: EmbeddedPart,
    users: EmbeddedPart | None,
    seconds: float,
) -> EmbedSummary:
    parts = [part for part in (items, users) if part is not None]
    encoded = sum(part.encoded for part in parts)
    spent = sum(part.seconds for part in parts)
    return EmbedSummary(
        name=manifest.name,
        path=str(maker.path),
        encoder=maker.encoder.name,
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
