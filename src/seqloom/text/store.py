"""Embeddings of a data set on disk, with where they come from.

DATASET/text/<name>/manifest.json            what made them, and what it was allowed to see
DATASET/text/<name>/items.safetensors        "embeddings" [N, E] float32, row i is item i + 1
DATASET/text/<name>/users.safetensors        "embeddings" [U, E] float32, row u is user u
DATASET/text/<name>/neighbours-<k>.safetensors   similar users, made at first use (text.similar_users)
DATASET/text/default.json                    which of them a training takes unasked
"""

from __future__ import annotations

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
UNKNOWN_SOURCE = "not known to seqloom"
"""How `saw` begins where an artefact came from elsewhere."""


class PartManifest(Config):
    """Where the vectors of the items, or of the users, come from."""

    rows: int
    template: str | None
    """The prompt template's text; None where no text was read (`mean`)."""
    mode: Literal["prompt", "mean"] = "prompt"
    saw: str
    """What the texts were allowed to hold."""
    training: str | None = None
    """SHA-256 of the training part that texts or means were made of; None where no event entered."""
    max_items: int | None = None
    """Most titles of a user's text; None where users have no text."""
    max_words: int | None = None
    """Most words of a user's titles; None where users have no text."""
    content_hash: str
    """SHA-256 of encoder and texts: equal hash, equal vectors."""
    file_sha256: str = ""
    """Of the safetensors file."""
    without_text: int = 0
    """Items without any text; users without training items, whose row is zero."""
    cut_items: int = 0
    """Users whose oldest items were left out of the prompt."""
    truncated: int = 0
    """Texts of which the encoder cut off the end."""
    seconds: float = 0.0
    """Time that the run which encoded them took for it."""


class TextManifest(Config):
    """What a folder of embeddings says of itself."""

    format: Literal["seqloom-text"] = "seqloom-text"
    version: int = FORMAT_VERSION
    seqloom: str
    """Version of seqloom that wrote the folder."""
    name: str
    dataset: str
    """Fingerprint of the data set."""
    encoder: dict[str, Any]
    """The encoder's provenance."""
    width: int
    dtype: Literal["float32"] = "float32"
    items: PartManifest
    users: PartManifest | None


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings of a data set's items, and of its users where they were made."""

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
        """For each user the `k` most similar others by the cosine of their embeddings.

        Computed at the first call and kept beside the embeddings; see `text.similar_users`.

        Args:
            recall: find about this share of them by an approximate index; None finds all.

        Raises:
            ArtefactError: there are no user embeddings.
            ConfigError: `k` is out of range, or an index is asked for and faiss is not installed.

        Shapes: -> [U, k] int64.
        """
        if self.users is None or self.manifest.users is None:
            raise ArtefactError(
                f"the embeddings {self.name!r} have no users; make them with "
                f"`seqloom embed DATASET --users prompt` (or mean)"
            )
        if (k, recall) not in self._neighbours:
            found = find_similar_users(self.path, self.users, k, recall, progress)
            self._neighbours[k, recall] = found
        return self._neighbours[k, recall]


def text_names(dataset: Dataset) -> list[str]:
    """Names of the embeddings that the data set has, in alphabetical order."""
    return sorted(file.parent.name for file in (dataset.path / "text").glob("[!.]*/manifest.json"))


def check_name(name: str) -> str:
    """`name` if it can name a folder.

    Raises:
        ConfigError: it cannot.
    """
    if not name or name.startswith(".") or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in name):
        raise ConfigError(f"{name!r} cannot name embeddings; use letters, digits, - and _")
    return name


def load_embeddings(dataset: Dataset, name: str | None = None) -> TextEmbeddings:
    """The embeddings `name`; without a name the default ones, or the only ones.

    Raises:
        ArtefactError: they do not exist, several exist and none is the default, they belong to
            other data, or a file is damaged. The message lists what exists and how to make them.
    """
    path = dataset.path / "text" / (name or _default_name(dataset))
    manifest = read_manifest(dataset, path.name)
    items = _checked(path / "items.safetensors", manifest.items, manifest.width)
    items = items[: dataset.num_items]
    users = None
    if manifest.users is not None:
        users = _checked(path / "users.safetensors", manifest.users, manifest.width)
    return TextEmbeddings(path, manifest, items, users)


def read_manifest(dataset: Dataset, name: str) -> TextManifest:
    """The manifest of the embeddings `name`, checked to belong to `dataset`.

    Raises:
        ArtefactError: as `load_embeddings`.
    """
    path = dataset.path / "text" / name
    if not (path / "manifest.json").exists():
        names = text_names(dataset)
        have = f"it has {', '.join(map(repr, names))}" if names else "it has none"
        raise ArtefactError(
            f"{dataset.path} has no embeddings {name!r} ({have}); make them with "
            f"`seqloom embed {dataset.path} --name {name}`"
        )
    raw = read_json(path / "manifest.json", "folder of embeddings")
    if not isinstance(raw, dict) or raw.get("format") != "seqloom-text":
        raise ArtefactError(f"{path} is no folder of embeddings; delete it and run `seqloom embed`")
    if raw.get("version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has embedding format {raw.get('version')}, this seqloom reads "
            f"{FORMAT_VERSION}; run `seqloom embed --overwrite` again"
        )
    with reading(path / "manifest.json", "the manifest of embeddings", _REMEDY):
        manifest = TextManifest.build(raw)
    rows = dataset.manifest.statistics["items"]
    if manifest.items.rows != rows or (
        manifest.users is not None and manifest.users.rows != dataset.num_users
    ):
        raise ArtefactError(
            f"{path} is of {manifest.items.rows} items"
            f"{f' and {manifest.users.rows} users' if manifest.users else ''}, the data set has {rows} and "
            f"{dataset.num_users}; {_REMEDY} again"
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
    """Write the folder, whole or not at all, and open it.

    Raises:
        ArtefactError: it exists and `overwrite` is false.
    """
    path = dataset.path / "text" / manifest.name
    parts: dict[str, PartManifest | None] = {"items": manifest.items, "users": manifest.users}
    with atomic_folder(path, overwrite=overwrite) as work:
        for part, tensor in (("items", items), ("users", users)):
            told = parts[part]
            if tensor is not None and told is not None:
                file = work / f"{part}.safetensors"
                write_tensors(file, {"embeddings": tensor})
                parts[part] = told.model_copy(update={"file_sha256": sha256_file(file)})
        written = manifest.model_copy(update=parts)
        write_json(work / "manifest.json", written.model_dump(mode="json"), sealed=True)
    return TextEmbeddings(path, written, items, users)


def mark_default(dataset: Dataset, name: str) -> None:
    """Make `name` the embeddings that `load_embeddings` gives unasked."""
    write_json(dataset.path / "text" / "default.json", {"name": name}, sealed=True)


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
    """The matrix of a file whose hash and shape are what the manifest says."""
    with reading(file, "embeddings", _REMEDY):
        found = sha256_file(file)
        if found != part.file_sha256:
            raise ArtefactError(
                f"{file} was damaged or changed since it was written: it has SHA-256 {found[:12]}, the "
                f"manifest says {part.file_sha256[:12]}; put it back, or {_REMEDY}"
            )
        matrix = load_file(file)["embeddings"]
    if matrix.shape != (part.rows, width) or not matrix.is_floating_point():
        raise ArtefactError(
            f"{file} has {matrix.dtype} of shape {tuple(matrix.shape)}, its manifest says ({part.rows}, "
            f"{width}); {_REMEDY}"
        )
    if not bool(matrix.isfinite().all()):
        raise ArtefactError(f"{file} holds values that are not finite; {_REMEDY}")
    return matrix
