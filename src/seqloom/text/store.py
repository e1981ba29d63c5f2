"""Embeddings of a data set on disk, with their provenance.

DATASET/text/<name>/manifest.json            encoder, templates and the data that the texts were made from
DATASET/text/<name>/items.safetensors        "embeddings" [N, E] float32, row i is item i + 1
DATASET/text/<name>/users.safetensors        "embeddings" [U, E] float32, row u is user u
DATASET/text/<name>/neighbours-<k>.safetensors   similar users, computed on first use (text.similar_users)
DATASET/text/default.json                    the name of the default embeddings
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import atomic_folder, read_json, sha256_file, write_json
from seqloom.core.progress import SILENT, Progress
from seqloom.core.tensors import write_tensors
from seqloom.data.store import Dataset
from seqloom.text.similar_users import find_similar_users

FORMAT_VERSION = 1
_REMEDY = "run `seqloom embed --overwrite`"
WORDS_ALONE = ("hash", "words")
"""Kinds of encoders without a language model; `words` of a tuning that started from random vectors."""
UNKNOWN_SOURCE = "not known to seqloom"
"""The first words of `saw` of an imported artefact."""


class PartManifest(Config):
    """The provenance of the vectors of items or users."""

    rows: int
    template: str | None
    """The text of the prompt template; None if there are no texts (`mean`)."""
    mode: Literal["prompt", "mean"] = "prompt"
    saw: str
    """The data that the texts were made from."""
    training: str | None = None
    """SHA-256 of the training part that texts or means were made from; None if no event was used."""
    max_items: int | None = None
    """Limit of titles in a user's text; None if users have no text."""
    max_words: int | None = None
    """Limit of words of a user's titles; None if users have no text."""
    content_hash: str
    """SHA-256 of encoder and texts: equal hash, equal vectors."""
    file_sha256: str = ""
    """SHA-256 of the safetensors file."""
    without_text: int = 0
    """Items without any text; users without training items, whose row is zero."""
    cut_items: int = 0
    """Users whose oldest items were dropped from the prompt."""
    truncated: int = 0
    """Texts that the encoder truncated."""
    seconds: float = 0.0
    """Encoding time of the run that encoded them."""


class TextManifest(Config):
    """The manifest of a folder of embeddings."""

    format: Literal["seqloom-text"] = "seqloom-text"
    version: int = FORMAT_VERSION
    seqloom: str
    """Version of seqloom that wrote the folder."""
    name: str
    dataset: str
    """Fingerprint of the data set."""
    encoder: dict[str, Any]
    """The encoder's provenance."""
    tuning_seconds: float = 0.0
    """Seconds that the log took to tune the encoder, if it did."""
    language_model: bool | None = None
    """Whether a language model has a part in the vectors; None in embeddings of an older seqloom."""
    width: int
    dtype: Literal["float32"] = "float32"
    items: PartManifest
    users: PartManifest | None

    @property
    def by_language_model(self) -> bool:
        """Whether a language model has a part in the vectors."""
        return is_by_language_model(self.language_model, self.encoder)


def is_by_language_model(recorded: bool | None, encoder: Mapping[str, Any]) -> bool:
    """Returns what a manifest of embeddings recorded or, where it did not, what its encoder tells."""
    return encoder.get("kind") not in WORDS_ALONE if recorded is None else recorded


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings of the items of a data set, and optionally of its users."""

    path: Path
    manifest: TextManifest
    items: Tensor
    """[N, E] float32; row i belongs to item number i + 1."""
    users: Tensor | None
    """[U, E] float32; row u belongs to user number u, zero where it has no training items."""
    _neighbours: dict[tuple[int, float | None], Tensor] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def width(self) -> int:
        """E."""
        return self.manifest.width

    def similar_users(
        self, k: int, progress: Progress = SILENT, recall: float | None = None
    ) -> Tensor:
        """Returns, for each user, the `k` most similar others by the cosine of their embeddings.

        Computed at the first call and stored beside the embeddings; see `text.similar_users`.

        Args:
            recall: find about this share of them with an approximate index; None finds all.

        Raises:
            ArtefactError: there are no user embeddings.
            ConfigError: `k` is out of range, or an index is needed and faiss is not installed.

        Shapes: -> [U, k] int64.
        """
        if self.users is None or self.manifest.users is None:
            raise ArtefactError(
                f"the embeddings {self.name!r} have no users; make them with "
                f"`seqloom embed DATASET --users prompt` (or mean)"
            )
        if (k, recall) not in self._neighbours:
            similar = find_similar_users(self.path, self.users, k, recall, progress)
            self._neighbours[k, recall] = similar
        return self._neighbours[k, recall]


def text_names(dataset: Dataset) -> list[str]:
    """Lists the names of the data set's embeddings in alphabetical order."""
    return sorted(file.parent.name for file in (dataset.path / "text").glob("[!.]*/manifest.json"))


def check_name(name: str) -> str:
    """Checks that `name` can be the name of a folder, and returns it.

    Raises:
        ConfigError: it cannot.
    """
    if not name or name.startswith(".") or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in name):
        raise ConfigError(f"{name!r} cannot name embeddings; use letters, digits, - and _")
    return name


def load_embeddings(dataset: Dataset, name: str | None = None) -> TextEmbeddings:
    """Loads the embeddings `name`; without a name, the default ones or the only ones.

    Raises:
        ArtefactError: they do not exist, several exist and none is the default, they belong to other
            data, or a file is damaged. The message lists the existing ones and how to make them.
    """
    path = _folder(dataset, name)
    manifest = read_manifest(dataset, path.name)
    items = _checked(path / "items.safetensors", manifest.items, manifest.width)
    items = items[: dataset.num_items]
    users = None
    if manifest.users is not None:
        users = _checked(path / "users.safetensors", manifest.users, manifest.width)
    return TextEmbeddings(path, manifest, items, users)


def read_manifest(dataset: Dataset, name: str | None = None) -> TextManifest:
    """Reads the manifest of the embeddings that `load_embeddings` loads, and checks that it fits `dataset`.

    Raises:
        ArtefactError: as `load_embeddings`; the vectors are not read.
    """
    path = _folder(dataset, name)
    name = path.name
    if not (path / "manifest.json").exists():
        names = text_names(dataset)
        have = f"it has {', '.join(map(repr, names))}" if names else "it has none"
        raise ArtefactError(
            f"{dataset.path} has no embeddings {name!r} ({have}); make them with "
            f"`seqloom embed {dataset.path} --name {name}`"
        )
    raw = read_json(path / "manifest.json", "folder of embeddings")
    if not isinstance(raw, dict) or raw.get("format") != "seqloom-text":
        raise ArtefactError(
            f"{path} is not a folder of embeddings; delete it and run `seqloom embed`"
        )
    if raw.get("version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has embedding format {raw.get('version')}, but this version of seqloom reads "
            f"{FORMAT_VERSION}; run `seqloom embed --overwrite` again"
        )
    with reading(path / "manifest.json", "the manifest of embeddings", _REMEDY):
        manifest = TextManifest.build(raw)
    rows = dataset.manifest.statistics["items"]
    if manifest.items.rows != rows or (
        manifest.users is not None and manifest.users.rows != dataset.num_users
    ):
        raise ArtefactError(
            f"{path} has embeddings of {manifest.items.rows} items"
            f"{f' and {manifest.users.rows} users' if manifest.users else ''}, but the data set has {rows} "
            f"and {dataset.num_users}; {_REMEDY} again"
        )
    if manifest.dataset != dataset.fingerprint:
        raise ArtefactError(
            f"{path} was made for a data set with fingerprint {manifest.dataset[:12]}, but "
            f"{dataset.path} has {dataset.fingerprint[:12]}; run `seqloom embed --overwrite` again"
        )
    return manifest


def write_embeddings(
    dataset: Dataset,
    manifest: TextManifest,
    items: Tensor,
    users: Tensor | None,
    *,
    overwrite: bool = False,
) -> TextEmbeddings:
    """Writes the folder, complete or not at all, and opens it.

    Raises:
        ArtefactError: it exists and `overwrite` is false.
    """
    path = dataset.path / "text" / manifest.name
    parts: dict[str, PartManifest | None] = {"items": manifest.items, "users": manifest.users}
    with atomic_folder(path, overwrite=overwrite) as work:
        for part, tensor in (("items", items), ("users", users)):
            record = parts[part]
            if tensor is not None and record is not None:
                file = work / f"{part}.safetensors"
                write_tensors(file, {"embeddings": tensor})
                parts[part] = record.model_copy(update={"file_sha256": sha256_file(file)})
        written = manifest.model_copy(update=parts)
        write_json(work / "manifest.json", written.model_dump(mode="json"), sealed=True)
    return TextEmbeddings(path, written, items, users)


def mark_default(dataset: Dataset, name: str) -> None:
    """Makes `name` the default embeddings of the data set."""
    write_json(dataset.path / "text" / "default.json", {"name": name}, sealed=True)


def _folder(dataset: Dataset, name: str | None) -> Path:
    return dataset.path / "text" / (name or _default_name(dataset))


def _default_name(dataset: Dataset) -> str:
    names = text_names(dataset)
    if not names:
        raise ArtefactError(
            f"{dataset.path} has no embeddings; make them with `seqloom embed {dataset.path}`"
        )
    marked = dataset.path / "text" / "default.json"
    if marked.exists():
        raw = read_json(marked, "mark of the default embeddings")
        name = raw.get("name") if isinstance(raw, dict) else None
        if name in names:
            return str(name)
    if len(names) == 1:
        return names[0]
    raise ArtefactError(
        f"{dataset.path} has several embeddings ({', '.join(map(repr, names))}) and none is the "
        f"default; name one, or run `seqloom embed --default` for one of them again"
    )


def _checked(file: Path, part: PartManifest, width: int) -> Tensor:
    """Reads the matrix of a file and checks its hash and shape by the manifest."""
    with reading(file, "embeddings", _REMEDY):
        digest = sha256_file(file)
        if digest != part.file_sha256:
            raise ArtefactError(
                f"{file} was damaged or changed since it was written: it has SHA-256 {digest[:12]}, but "
                f"the manifest says {part.file_sha256[:12]}; restore it, or {_REMEDY}"
            )
        matrix = load_file(file)["embeddings"]
    if matrix.shape != (part.rows, width) or not matrix.is_floating_point():
        raise ArtefactError(
            f"{file} has {matrix.dtype} of shape {tuple(matrix.shape)}, but its manifest says "
            f"({part.rows}, {width}); {_REMEDY}"
        )
    if not bool(matrix.isfinite().all()):
        raise ArtefactError(f"{file} holds values that are not finite; {_REMEDY}")
    return matrix
