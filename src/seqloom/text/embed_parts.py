"""What is to be embedded, and making it; what earlier embeddings hold already is reused."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import sha256_text
from seqloom.core.progress import Progress
from seqloom.data.store import Dataset
from seqloom.text import store
from seqloom.text.embedding_shards import ShardSet
from seqloom.text.encoders import TextEncoder
from seqloom.text.prompts import PromptTexts
from seqloom.text.resume import Encoded, content_hash, encode_timed
from seqloom.text.store import PartManifest, TextManifest, Users
from seqloom.text.users import mean_of_items


@dataclass(frozen=True)
class PartPlan:
    """One part before its vectors exist; `texts` is None where they are averaged."""

    manifest: PartManifest
    texts: list[str | None] | None


@dataclass(frozen=True)
class EmbeddedPart:
    """One part with its vectors."""

    manifest: PartManifest
    vectors: Tensor
    reused: bool
    encoded: int = 0
    seconds: float = 0.0


def plan_items(encoder: TextEncoder, prompts: PromptTexts) -> PartPlan:
    """What the item embeddings are made of."""
    told = PartManifest(
        rows=len(prompts.texts),
        template=prompts.template,
        saw="items: item text only",
        content_hash=content_hash(encoder, prompts.texts),
        without_text=prompts.without_text,
    )
    return PartPlan(told, prompts.texts)


def plan_users(
    dataset: Dataset,
    encoder: TextEncoder,
    items: PartPlan,
    prompts: PromptTexts | None,
    mode: Users,
) -> PartPlan | None:
    """What the user embeddings are made of; `prompts` is what the mode `prompt` encodes."""
    saw = "users: training part only"
    if mode == "none":
        return None
    if prompts is None:
        told = PartManifest(
            rows=dataset.num_users,
            template=None,
            mode="mean",
            saw=saw,
            training=dataset.training_hash,
            content_hash=sha256_text("mean", items.manifest.content_hash, dataset.fingerprint),
            without_text=int((dataset.train.lengths == 0).sum()),
        )
        return PartPlan(told, None)
    max_items, max_words = prompts.limits or (None, None)
    told = PartManifest(
        rows=len(prompts.texts),
        template=prompts.template,
        saw=saw,
        training=dataset.training_hash,
        max_items=max_items,
        max_words=max_words,
        content_hash=content_hash(encoder, prompts.texts),
        without_text=prompts.without_text,
        cut_items=prompts.cut,
    )
    return PartPlan(told, prompts.texts)


class PartEmbedder:
    """One call of `embed`: where its vectors come from, and where its unfinished work lies.

    With `shards`, what no earlier embeddings hold comes from these and not from the encoder.
    """

    def __init__(
        self,
        dataset: Dataset,
        name: str,
        encoder: TextEncoder,
        progress: Progress,
        shards: ShardSet | None = None,
    ) -> None:
        self.dataset = dataset
        self.name = name
        self.path = dataset.path / "text" / name
        self.encoder = encoder
        self.progress = progress
        self._shards = shards
        self._work: list[Path] = [] if shards is None else [shards.folder]
        self._earlier: dict[str, TextManifest] = {}
        for other in store.text_names(dataset):
            try:
                self._earlier[other] = store.read_manifest(dataset, other)
            except ArtefactError as error:
                progress.warn(str(error))

    def holds(self, items: PartPlan, users: PartPlan | None) -> bool:
        """Whether the embeddings of this name are what is asked for."""
        there = self._earlier.get(self.name)
        if there is None or there.items.content_hash != items.manifest.content_hash:
            return False
        found = there.users.content_hash if there.users else None
        return found == (users.manifest.content_hash if users else None)

    def make(self, part: str, plan: PartPlan, ids: list[str]) -> EmbeddedPart:
        """The vectors of `plan.texts`: out of earlier embeddings, else from the encoder."""
        found = self._reused(part, plan)
        if found is not None:
            return found
        texts = plan.texts or []
        if part == "items" and plan.manifest.without_text:
            self.progress.warn(f"{plan.manifest.without_text} items have no text")
        if self._shards is not None:
            made = self._shards.part(part, self.encoder.provenance(), texts)
        else:
            made = self._encoded(part, plan, texts, ids)
        if made.truncated:
            self.progress.warn(
                f"the encoder cut off the end of {made.truncated} of {made.texts} texts ({part})"
            )
        told = plan.manifest.model_copy(
            update={"truncated": made.truncated, "seconds": made.seconds}
        )
        return EmbeddedPart(
            told, made.vectors, reused=False, encoded=made.encoded, seconds=made.seconds
        )

    def _encoded(
        self, part: str, plan: PartPlan, texts: list[str | None], ids: list[str]
    ) -> Encoded:
        work = self.dataset.path / "text" / f".{part}-{plan.manifest.content_hash[:16]}.work"
        self._work.append(work)
        name = f"encoding {part}"
        return encode_timed(self.encoder, texts, ids, work, name=name, progress=self.progress)

    def make_users(self, plan: PartPlan | None, items: EmbeddedPart) -> EmbeddedPart | None:
        """The user embeddings, or None where none are wanted."""
        if plan is None:
            return None
        if plan.texts is not None:
            if not any(text is not None for text in plan.texts):
                raise ConfigError(
                    "no user has training items, so there is nothing to embed; use --users none"
                )
            return self.make("users", plan, self.dataset.user_ids)
        found = self._reused("users", plan)
        vectors = mean_of_items(self.dataset.train, items.vectors)
        return found or EmbeddedPart(plan.manifest, vectors, reused=False)

    def clean(self) -> None:
        """Remove unfinished work that is finished now."""
        for folder in self._work:
            shutil.rmtree(folder, ignore_errors=True)

    def _reused(self, part: str, plan: PartPlan) -> EmbeddedPart | None:
        """The same vectors out of any embeddings of this data set, whole and undamaged."""
        for name, manifest in self._earlier.items():
            there: PartManifest | None = getattr(manifest, part)
            if there is None or there.content_hash != plan.manifest.content_hash:
                continue
            try:
                vectors: Tensor = getattr(store.load_embeddings(self.dataset, name), part)
            except ArtefactError as error:
                self.progress.warn(f"{error}; the {part} are embedded again")
                continue
            self.progress.note(f"{part}: embeddings {name!r} have the same texts and are reused")
            measured = ("file_sha256", "truncated", "seconds")
            told = plan.manifest.model_copy(update={key: getattr(there, key) for key in measured})
            return EmbeddedPart(told, vectors, reused=True)
        return None
