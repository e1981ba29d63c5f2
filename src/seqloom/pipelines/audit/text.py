"""Checks text embeddings: renders their texts again and encodes a sample of them."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.core.errors import SeqloomError
from seqloom.core.progress import Progress
from seqloom.core.random import generator
from seqloom.data.store import Dataset
from seqloom.data.training_only import training_only
from seqloom.pipelines.audit.encoders import check_tuned_encoder
from seqloom.pipelines.audit.report import Checks
from seqloom.text.encoders import rebuild_encoder
from seqloom.text.neighbours import cosines, top_similar
from seqloom.text.prompts import PromptTexts, item_prompts, user_prompts
from seqloom.text.resume import content_hash_of
from seqloom.text.similar_users import load_similar_users
from seqloom.text.store import (
    UNKNOWN_SOURCE,
    PartManifest,
    TextEmbeddings,
    load_embeddings,
)
from seqloom.text.users import mean_of_items

_ITEMS = "item texts alone, no event"
_USERS = "the users' training part"
_SAMPLE = 64
_EQUAL = 1e-9
"""Largest difference of equal cosines; copies of one pair may differ in the last bits."""
_SAMPLING = 0.02
"""Tolerance of recall beyond its standard error on the sample."""
_ALIKE = 0.999
"""Least cosine of a vector and its repetition; another batch or device rounds differently."""


def check_embeddings(
    data: Dataset, name: str, checks: Checks, *, encode: bool, progress: Progress
) -> None:
    """Checks the texts, vectors and neighbours of the embeddings `name`."""
    again = f"run `seqloom embed {data.path} --name {name} --overwrite`, then train again"
    try:
        embeddings = load_embeddings(data, name)
    except SeqloomError as error:
        checks.judge(f"embeddings {name!r}", _ITEMS, False, good="", bad=str(error), action=again)
        return
    blind = training_only(data)
    _Embeddings(data, blind, embeddings, checks, again, encode, progress).check()
    check_tuned_encoder(data, embeddings, checks, progress)


class _Embeddings:
    """Checks one embedding."""

    def __init__(
        self,
        data: Dataset,
        blind: Dataset,
        embeddings: TextEmbeddings,
        checks: Checks,
        again: str,
        encode: bool,
        progress: Progress,
    ) -> None:
        self.data, self.blind, self.checks = data, blind, checks
        self.embeddings = embeddings
        self.again, self.encode, self.progress = again, encode, progress

    def check(self) -> None:
        manifest = self.embeddings.manifest
        self._prompts("items", manifest.items, self.embeddings.items)
        if manifest.users is None or self.embeddings.users is None:
            return
        if manifest.users.mode == "mean":
            self._means(manifest.users, self.embeddings.users)
        else:
            self._prompts("users", manifest.users, self.embeddings.users)
        self._neighbours(self.embeddings.users)

    def _prompts(self, part: str, manifest: PartManifest, vectors: Tensor) -> None:
        what = (
            f"prompts of {part}, {self.embeddings.name!r}",
            _ITEMS if part == "items" else _USERS,
        )
        if manifest.saw.startswith(UNKNOWN_SOURCE) or manifest.template is None:
            self.checks.unknown(*what, manifest.saw, "embed with seqloom to be sure")
            return
        prompts = self._render(part, manifest)
        if prompts is None:
            self.checks.unknown(*what, "an older seqloom made them and kept no limits", self.again)
            return
        expected = content_hash_of(self.embeddings.manifest.encoder, prompts.texts)
        recorded = manifest.training in (None, self.data.training_hash)
        self.checks.judge(
            *what,
            expected == manifest.content_hash and recorded,
            good=f"{len(prompts.texts)} texts rendered again have the manifest's hash",
            bad="the embedded texts are not those that the allowed data give"
            if recorded
            else "they belong to another training part",
            action=self.again,
        )
        self._sample(part, prompts, vectors)

    def _render(self, part: str, manifest: PartManifest) -> PromptTexts | None:
        assert manifest.template is not None
        if part == "items":
            return item_prompts(self.blind, manifest.template)
        if manifest.max_items is None or manifest.max_words is None:
            return None
        return user_prompts(
            self.blind,
            manifest.template,
            max_items=manifest.max_items,
            max_words=manifest.max_words,
        )

    def _sample(self, part: str, prompts: PromptTexts, vectors: Tensor) -> None:
        saw = _ITEMS if part == "items" else _USERS
        what = (f"vectors of {part}, {self.embeddings.name!r}", saw)
        kind = self.embeddings.manifest.encoder.get("kind")
        if not self.encode or kind == "openai":
            why = (
                "encoding is switched off"
                if not self.encode
                else "an endpoint may charge for each text"
            )
            self.checks.unknown(*what, f"no text was encoded again: {why}")
            return
        rows = [row for row in _sample(len(vectors), part) if prompts.texts[row] is not None]
        try:
            encoder = rebuild_encoder(self.embeddings.manifest.encoder, self.progress)
            encoded = encoder.encode([prompts.texts[row] or "" for row in rows])
        except SeqloomError as error:
            self.checks.unknown(*what, f"the encoder is missing: {error}")
            return
        alike = torch.cosine_similarity(encoded, vectors[rows]) if rows else torch.ones(1)
        self.checks.judge(
            *what,
            float(alike.min()) >= _ALIKE,
            good=f"{len(rows)} texts encoded again give the stored vectors",
            bad=f"of {len(rows)} texts encoded again {int((alike < _ALIKE).sum())} give other vectors",
            action=self.again,
        )

    def _means(self, manifest: PartManifest, vectors: Tensor) -> None:
        means = mean_of_items(self.blind.train, self.embeddings.items)
        off = ~torch.isclose(means, vectors, rtol=1e-4, atol=1e-5).all(dim=1)
        self.checks.judge(
            f"vectors of users, {self.embeddings.name!r}",
            _USERS,
            not bool(off.any()) and manifest.training in (None, self.data.training_hash),
            good="the means of the training items, computed again, are the stored ones",
            bad=f"{int(off.sum())} users have another mean than that of their training items",
            action=self.again,
        )

    def _neighbours(self, users: Tensor) -> None:
        rows = torch.tensor(_sample(len(users), "neighbours"))
        for kept in load_similar_users(self.embeddings.path):
            k = kept.users.shape[1]
            what = (f"{k} similar users, {self.embeddings.name!r}", "user embeddings")
            if kept.saw.startswith(UNKNOWN_SOURCE):
                self.checks.unknown(*what, kept.saw, f"delete {kept.file.name} to be sure")
                continue
            if kept.users.shape != (len(users), k):
                good, bad = False, "they belong to another number of users"
            elif kept.recall is None:
                good, bad = _compare_exact(users, kept.users[rows], rows)
            else:
                good, bad = _compare_approximate(users, kept.users[rows], rows, kept.recall.target)
            self.checks.judge(
                *what,
                good,
                good=f"found again for {len(rows)} users"
                if kept.recall is None
                else f"approximate: {kept.recall.target:.0%} or more are found again for {len(rows)} users",
                bad=bad,
                action=f"delete {kept.file} and train again",
            )


def _compare_exact(users: Tensor, kept: Tensor, rows: Tensor) -> tuple[bool, str]:
    """Compares exact neighbours with those of another search. Shapes: kept [R, k], rows [R]."""
    same = (kept == top_similar(users, kept.shape[1], of=rows)).all(dim=1)
    bad = f"of {len(rows)} users {int((~same).sum())} have other neighbours when searched again"
    return bool(same.all()), bad


def _compare_approximate(
    users: Tensor, kept: Tensor, rows: Tensor, target: float
) -> tuple[bool, str]:
    """Checks the order of approximate neighbours, and the share of exact ones among them.

    Shapes: kept [R, k], rows [R].
    """
    similarities = cosines(users, rows, kept)
    ordered = (similarities.diff(dim=1) <= _EQUAL).all(dim=1) & (kept != rows[:, None]).all(dim=1)
    last = cosines(users, rows, top_similar(users, kept.shape[1], of=rows))[:, -1:]
    share = (similarities >= last - _EQUAL).double().mean(1)  # [R]
    error = float(share.std()) / len(rows) ** 0.5 if len(rows) > 1 else 0.0
    if not bool(ordered.all()):
        return (
            False,
            f"of {len(rows)} users {int((~ordered).sum())} have neighbours in another order",
        )
    recall = float(share.mean())
    bad = f"of {len(rows)} users' neighbours {recall:.1%} are found again, which should be {target:.0%}"
    return recall >= target - _SAMPLING - 3 * error, bad


def _sample(rows: int, what: str) -> list[int]:
    """Draws up to `_SAMPLE` row numbers with a fixed seed."""
    chosen = torch.randperm(rows, generator=generator(0, "audit", what))[:_SAMPLE]
    return sorted(chosen.tolist())
