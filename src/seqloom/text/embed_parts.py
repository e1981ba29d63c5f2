"""Plans and embeds the parts (items, users) of a data set, and reuses vectors of earlier embeddings."""

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
from seqloom.text.options import Users
from seqloom.text.prompts import PromptTexts
from seqloom.text.resume import Encoded, content_hash, encode_timed
from seqloom.text.store import PartManifest, TextManifest
from seqloom.text.users import mean_of_items


@dataclass(frozen=True)
class PartPlan:
    """The plan of one part; `texts` is None where vectors are averaged."""

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
    """Plans the item embeddings."""
    tuned_on = encoder.provenance().get("tuned_on")
    tuned = f"; encoder tuned on the training part {tuned_on[:12]}" if tuned_on else ""
    manifest = PartManifest(
        rows=len(prompts.texts),
        template=prompts.template,
        saw=f"items: item text only{tuned}",
        content_hash=content_hash(encoder, prompts.texts),
        without_text=prompts.without_text,
    )
    return PartPlan(manifest, prompts.texts)


def plan_users(
    dataset: Dataset,
    encoder: TextEncoder,
    items: PartPlan,
    prompts: PromptTexts | None,
    mode: Users,
) -> PartPlan | None:
    """Plans the user embeddings; `prompts` are the texts of the mode `prompt`."""
    saw = "users: training part only"
    if mode == "none":
        return None
    if prompts is None:
        manifest = PartManifest(
            rows=dataset.num_users,
            template=None,
            mode="mean",
            saw=saw,
            training=dataset.training_hash,
            content_hash=sha256_text("mean", items.manifest.content_hash, dataset.fingerprint),
            without_text=int((dataset.train.lengths == 0).sum()),
        )
        return PartPlan(manifest, None)
    max_items, max_words = prompts.limits or (None, None)
    manifest = PartManifest(
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
    return PartPlan(manifest, prompts.texts)


class PartEmbedder:
    """Embeds the parts of a data set: reuses vectors of earlier embeddings, and encodes the others.

    With `shards`, vectors that cannot be reused come from these instead of the encoder.
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
        """Returns whether the embeddings of this name exist already with the same content."""
        stored = self._earlier.get(self.name)
        if stored is None or stored.items.content_hash != items.manifest.content_hash:
            return False
        content_hash = stored.users.content_hash if stored.users else None
        return content_hash == (users.manifest.content_hash if users else None)

    def make(self, part: str, plan: PartPlan, ids: list[str]) -> EmbeddedPart:
        """Embeds `plan.texts`: reuses earlier embeddings, or encodes."""
        reused = self._reuse(part, plan)
        if reused is not None:
            return reused
        texts = plan.texts or []
        if part == "items" and plan.manifest.without_text:
            self.progress.warn(f"{plan.manifest.without_text} items have no text")
        if self._shards is not None:
            encoded = self._shards.part(part, self.encoder.provenance(), texts)
        else:
            encoded = self._encode(part, plan, texts, ids)
        if encoded.truncated:
            self.progress.warn(
                f"the encoder truncated {encoded.truncated} of {encoded.texts} texts ({part})"
            )
        manifest = plan.manifest.model_copy(
            update={"truncated": encoded.truncated, "seconds": encoded.seconds}
        )
        return EmbeddedPart(
            manifest,
            encoded.vectors,
            reused=False,
            encoded=encoded.encoded,
            seconds=encoded.seconds,
        )

    def _encode(
        self, part: str, plan: PartPlan, texts: list[str | None], ids: list[str]
    ) -> Encoded:
        work = self.dataset.path / "text" / f".{part}-{plan.manifest.content_hash[:16]}.work"
        self._work.append(work)
        name = f"encoding {part}"
        return encode_timed(self.encoder, texts, ids, work, name=name, progress=self.progress)

    def make_users(self, plan: PartPlan | None, items: EmbeddedPart) -> EmbeddedPart | None:
        """Makes the user embeddings, or returns None without a plan."""
        if plan is None:
            return None
        if plan.texts is not None:
            if not any(text is not None for text in plan.texts):
                raise ConfigError(
                    "no user has training items, so there is nothing to embed; use --users none"
                )
            return self.make("users", plan, self.dataset.user_ids)
        reused = self._reuse("users", plan)
        vectors = mean_of_items(self.dataset.train, items.vectors)
        return reused or EmbeddedPart(plan.manifest, vectors, reused=False)

    def clean(self) -> None:
        """Removes the folders of intermediate results."""
        for folder in self._work:
            shutil.rmtree(folder, ignore_errors=True)

    def _reuse(self, part: str, plan: PartPlan) -> EmbeddedPart | None:
        """Loads the vectors from any undamaged embeddings of this data set with the same content."""
        for name, earlier in self._earlier.items():
            stored: PartManifest | None = getattr(earlier, part)
            if stored is None or stored.content_hash != plan.manifest.content_hash:
                continue
            try:
                vectors: Tensor = getattr(store.load_embeddings(self.dataset, name), part)
            except ArtefactError as error:
                self.progress.warn(f"{error}; the {part} are embedded again")
                continue
            self.progress.note(f"{part}: embeddings {name!r} have the same texts and are reused")
            measured = ("file_sha256", "truncated", "seconds")
            update = {key: getattr(stored, key) for key in measured}
            return EmbeddedPart(plan.manifest.model_copy(update=update), vectors, reused=True)
        return None
