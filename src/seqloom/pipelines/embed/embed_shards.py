"""`embed` in shards: encodes one shard, merges all shards, or does both on a job runner."""

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
from seqloom.pipelines.embed.embed import EmbedSummary, default_name, embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.text.embedding_shards import (
    ShardManifest,
    ShardPart,
    ShardSet,
    job_key,
    read_shard,
    shard_file,
    shard_folder,
    shard_rows,
    write_shard,
)
from seqloom.text.encoders import TextEncoder, build_encoder
from seqloom.text.prompts import item_prompts, template_text, user_prompts
from seqloom.text.resume import content_hash, encode_timed
from seqloom.text.store import check_name, text_names


@dataclass(frozen=True)
class ShardSummary:
    """The result of encoding one shard."""

    shard: str
    file: str
    items: int
    users: int
    encoded: int
    """Texts that were encoded in this call."""
    seconds: float
    reused: bool
    """Whether the shard was already finished."""


def embed_shard(
    dataset: Dataset | str | Path,
    options: EmbedOptions,
    shard: Shard,
    *,
    progress: Progress = SILENT,
    encoder: TextEncoder | None = None,
) -> ShardSummary:
    """Encodes the texts of one shard into one file; reuses a finished file and resumes an unfinished one.

    Shards can run at the same time on all machines that have access to the data set's folder.
    `merge_shards` merges them to the same embeddings as those of `embed`.

    Raises:
        ConfigError: an option is out of range or does not fit the encoder.
        AssetError: the encoder's model does not exist or cannot be fetched.
        EmbeddingError: the encoder failed or returned no embedding.
        LockedError: another process is encoding this shard or writing the data set.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    encoder = encoder or build_encoder(options, progress)
    folder, _ = _place(dataset, options, encoder)
    with writing(dataset.path, shared=True), writing(shard_file(folder, shard)):
        return _make_shard(dataset, options, shard, encoder, progress)


def _make_shard(
    dataset: Dataset, options: EmbedOptions, shard: Shard, encoder: TextEncoder, progress: Progress
) -> ShardSummary:
    """Encodes a shard without taking its lock: a runner may run a piece twice at the same time."""
    folder, key = _place(dataset, options, encoder)
    file = shard_file(folder, shard)
    manifest = read_shard(file, key)
    if manifest is not None:
        return _summary(file, manifest, reused=True)
    work = folder / f".{shard.label}.work"
    rows = shard_rows(shard, len(dataset.items), _encoded_users(dataset, options))
    parts, vectors = {}, {}
    for part, mine in rows.items():
        if part == "users" and options.users != "prompt":
            continue
        texts = _texts(dataset, options, part, mine)
        ids = dataset.item_ids if part == "items" else dataset.user_ids
        encoded = encode_timed(
            encoder,
            texts,
            ids[mine.start : mine.stop],
            work / part,
            name=f"encoding {part}, shard {shard}",
            progress=progress,
        )
        parts[part] = ShardPart(
            start=mine.start,
            stop=mine.stop,
            content=content_hash(encoder, texts),
            truncated=encoded.truncated,
            seconds=encoded.seconds,
            encoded=encoded.texts,
        )
        if len(encoded.vectors):
            vectors[part] = encoded.vectors
    manifest = ShardManifest(key=key, shard=str(shard), parts=parts)
    write_shard(file, manifest, vectors)
    shutil.rmtree(work, ignore_errors=True)
    return _summary(file, manifest, reused=False)


def merge_shards(
    dataset: Dataset | str | Path,
    options: EmbedOptions,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
    encoder: TextEncoder | None = None,
) -> EmbedSummary:
    """Merges the finished shards to the embeddings of the data set; encodes no text.

    Raises:
        ArtefactError: shards are missing (the message names them), damaged or made from other texts, or
            other embeddings of that name exist and `overwrite` is false.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    encoder = encoder or build_encoder(options, progress)
    folder, key = _place(dataset, options, encoder)
    how = f"make each with `seqloom embed {dataset.path} --shard i/n` and the same options"
    try:
        shards = ShardSet.open(folder, key, how)
    except ArtefactError:
        if not folder.exists() and check_name(_name(options)) in text_names(dataset):
            # The shards were merged before: `embed` reuses the same embeddings, or refuses others.
            shards = ShardSet(folder, [])
        else:
            raise
    return embed(
        dataset, options, overwrite=overwrite, progress=progress, encoder=encoder, shards=shards
    )


def embed_sharded(
    runner: JobRunner,
    dataset: Dataset | str | Path,
    options: EmbedOptions,
    *,
    shards: int | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> EmbedSummary:
    """Encodes all shards on a runner and merges them. `shards` is their number, by default four per slot.

    Raises:
        SeqloomError: as `embed_shard`, `merge_shards` and `JobRunner.run`.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    encoder = build_encoder(options, progress)
    count = shards or 4 * runner.slots()
    job = secrets.token_hex(8)
    work = functools.partial(_piece, job, str(dataset.path.resolve()), options.model_dump(), count)
    with writing(dataset.path, shared=True), writing(dataset.path / "text" / _name(options)):
        runner.run(work, range(count), name="embed", progress=progress)
    return merge_shards(dataset, options, overwrite=overwrite, progress=progress, encoder=encoder)


def _piece(job: str, path: str, values: dict[str, Any], count: int, index: int) -> None:
    options = EmbedOptions.build(values)
    dataset, encoder = _opened(job, path, options)
    _make_shard(dataset, options, Shard(index, count), encoder, SILENT)


@functools.lru_cache(maxsize=1)
def _opened(job: str, path: str, options: EmbedOptions) -> tuple[Dataset, TextEncoder]:
    """Opens data set and encoder once per job and worker: loading a model can take longer than a shard."""
    return Dataset.load(path), build_encoder(options)


def _name(options: EmbedOptions) -> str:
    return check_name(options.name or default_name(options.encoder))


def _place(dataset: Dataset, options: EmbedOptions, encoder: TextEncoder) -> tuple[Path, str]:
    """Returns the folder and the key of the job. The key depends on the text of templates, not their path."""
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


def _summary(file: Path, manifest: ShardManifest, *, reused: bool) -> ShardSummary:
    rows = {part: share.stop - share.start for part, share in manifest.parts.items()}
    return ShardSummary(
        shard=manifest.shard,
        file=str(file),
        items=rows.get("items", 0),
        users=rows.get("users", 0),
        encoded=0 if reused else sum(share.encoded for share in manifest.parts.values()),
        seconds=0.0 if reused else sum(share.seconds for share in manifest.parts.values()),
        reused=reused,
    )
