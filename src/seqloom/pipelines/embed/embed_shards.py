"""`embed` in shares: one shard, all shards as one, and both by an engine."""

from __future__ import annotations

import functools
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.core.errors import ArtefactError
from seqloom.core.locks import writing
from seqloom.core.progress import SILENT, Progress
from seqloom.data.store import Dataset
from seqloom.jobs import JobRunner
from seqloom.jobs.shards import Shard
from seqloom.pipelines.embed.embed import EmbedOptions, EmbedSummary, default_name, embed
from seqloom.text.encoders import TextEncoder, build_encoder
from seqloom.text.prompts import item_prompts, template_text, user_prompts
from seqloom.text.resume import content_hash, encode_timed
from seqloom.text.shards import (
    ShardManifest,
    Shards,
    SharePart,
    job_key,
    read_shard,
    shard_file,
    shard_folder,
    shard_rows,
    write_shard,
)
from seqloom.text.store import check_name, text_names


@dataclass(frozen=True)
class ShardSummary:
    """What one shard's call made, or found made."""

    shard: str
    file: str
    items: int
    users: int
    encoded: int
    """Texts that went through the encoder in this call."""
    seconds: float
    reused: bool
    """Whether the file was there already."""


def embed_shard(
    dataset: Dataset | str | Path,
    options: EmbedOptions,
    shard: Shard,
    *,
    progress: Progress = SILENT,
    encoder: TextEncoder | None = None,
) -> ShardSummary:
    """Encode one shard's texts into one file. Called again, it finds its file, or goes on.

    Any number of shards may run at a time, anywhere that sees the data set's folder. `merge_shards`
    makes embeddings of them that equal those of `embed`.

    Raises:
        ConfigError: an option is out of range or does not fit the encoder.
        AssetError: the encoder's model cannot be found or fetched.
        EmbeddingError: the encoder failed or returned no embedding.
        LockedError: another process makes this shard, or writes the data set.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    encoder = encoder or build_encoder(options, progress)
    folder, _ = _place(dataset, options, encoder)
    with writing(dataset.path, shared=True), writing(shard_file(folder, shard)):
        return _make_shard(dataset, options, shard, encoder, progress)


def _make_shard(
    dataset: Dataset, options: EmbedOptions, shard: Shard, encoder: TextEncoder, progress: Progress
) -> ShardSummary:
    """`embed_shard` without its lock: an engine may run a piece twice at once."""
    folder, key = _place(dataset, options, encoder)
    file = shard_file(folder, shard)
    told = read_shard(file, key)
    if told is not None:
        return _summary(file, told, reused=True)
    work = folder / f".{shard.label}.work"
    rows = shard_rows(shard, len(dataset.items), _encoded_users(dataset, options))
    parts, vectors = {}, {}
    for part, mine in rows.items():
        if part == "users" and options.users != "prompt":
            continue
        texts = _texts(dataset, options, part, mine)
        ids = dataset.item_ids if part == "items" else dataset.user_ids
        made = encode_timed(
            encoder,
            texts,
            ids[mine.start : mine.stop],
            work / part,
            name=f"encoding {part}, shard {shard}",
            progress=progress,
        )
        parts[part] = SharePart(
            start=mine.start,
            stop=mine.stop,
            content=content_hash(encoder, texts),
            truncated=made.truncated,
            seconds=made.seconds,
            encoded=made.texts,
        )
        if len(made.vectors):
            vectors[part] = made.vectors
    told = ShardManifest(key=key, shard=str(shard), parts=parts)
    write_shard(file, told, vectors)
    shutil.rmtree(work, ignore_errors=True)
    return _summary(file, told, reused=False)


def merge_shards(
    dataset: Dataset | str | Path,
    options: EmbedOptions,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
    encoder: TextEncoder | None = None,
) -> EmbedSummary:
    """The finished shards as the embeddings of the data set; encodes nothing.

    Raises:
        ArtefactError: shards are missing (names them), damaged or made of other texts, or other
            embeddings of that name exist and `overwrite` is false.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    encoder = encoder or build_encoder(options, progress)
    folder, key = _place(dataset, options, encoder)
    how = f"make each with `seqloom embed {dataset.path} --shard i/n` and the same options"
    try:
        shards = Shards.open(folder, key, how)
    except ArtefactError:
        if not folder.exists() and check_name(_name(options)) in text_names(dataset):
            # Merged before: `embed` finds the same embeddings whole, or refuses.
            shards = Shards(folder, [])
        else:
            raise
    return embed(
        dataset, options, overwrite=overwrite, progress=progress, encoder=encoder, shards=shards
    )


def embed_by(
    engine: JobRunner,
    dataset: Dataset | str | Path,
    options: EmbedOptions,
    *,
    shards: int | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> EmbedSummary:
    """All shards by an engine, then the merge. `shards` is their number; by default four a slot.

    Raises:
        SeqloomError: as `embed_shard`, `merge_shards` and `JobRunner.run`.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    encoder = build_encoder(options, progress)
    count = shards or 4 * engine.slots()
    job = secrets.token_hex(8)
    work = functools.partial(_piece, job, str(dataset.path.resolve()), options.model_dump(), count)
    with writing(dataset.path, shared=True), writing(dataset.path / "text" / _name(options)):
        engine.run(work, range(count), name="embed", progress=progress)
    return merge_shards(dataset, options, overwrite=overwrite, progress=progress, encoder=encoder)


def _piece(job: str, path: str, values: dict[str, Any], count: int, index: int) -> None:
    options = EmbedOptions.build(values)
    dataset, encoder = _opened(job, path, options)
    _make_shard(dataset, options, Shard(index, count), encoder, SILENT)


@functools.lru_cache(maxsize=1)
def _opened(job: str, path: str, options: EmbedOptions) -> tuple[Dataset, TextEncoder]:
    """Opened once a job in each worker: loading a model may take longer than a shard."""
    return Dataset.load(path), build_encoder(options)


def _name(options: EmbedOptions) -> str:
    return check_name(options.name or default_name(options.encoder))


def _place(dataset: Dataset, options: EmbedOptions, encoder: TextEncoder) -> tuple[Path, str]:
    """The folder and the key of the job. Templates count by their text, wherever it lies."""
    choices: dict[str, Any] = {
        "items": template_text(options.item_template, "item"),
        "mode": options.users,
    }
    if options.users == "prompt":
        limits = [options.user_max_items, options.user_max_words]
        choices |= {"users": template_text(options.user_template, "user"), "limits": limits}
    key = job_key(dataset, encoder, choices)
    return shard_folder(dataset, _name(options), key), key


def _encoded_users(dataset: Dataset, options: EmbedOptions) -> int:
    return dataset.num_users if options.users == "prompt" else 0


def _texts(dataset: Dataset, options: EmbedOptions, part: str, rows: range) -> list[str | None]:
    if part == "items":
        return item_prompts(dataset, options.item_template, rows=rows).texts
    return user_prompts(
        dataset,
        options.user_template,
        max_items=options.user_max_items,
        max_words=options.user_max_words,
        rows=rows,
    ).texts


def _summary(file: Path, told: ShardManifest, *, reused: bool) -> ShardSummary:
    rows = {part: share.stop - share.start for part, share in told.parts.items()}
    return ShardSummary(
        shard=told.shard,
        file=str(file),
        items=rows.get("items", 0),
        users=rows.get("users", 0),
        encoded=0 if reused else sum(share.encoded for share in told.parts.values()),
        seconds=0.0 if reused else sum(share.seconds for share in told.parts.values()),
        reused=reused,
    )
