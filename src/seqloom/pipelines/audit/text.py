"""Checks of text embeddings: their texts rendered again, a sample of their vectors made again."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.core.errors import SeqloomError
from seqloom.core.progress import Progress
from seqloom.core.random import generator
from seqloom.data.store import Dataset, training_only
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
"""Cosines that differ by so little count as equal: the copies of one pair may differ in the last bits."""
_SAMPLING = 0.02
"""What recall may lack beside its error on the sample."""
_ALIKE = 0.999
"""Least cosine of a vector and itself made again: another batch or device rounds differently."""


def check_embeddings(
    data: Dataset, name: str, checks: Checks, *, encode: bool, progress: Progress
) -> None:
    """Texts, vectors and neighbours of the embeddings `name`."""
    again = f"run `seqloom embed {data.path} --name {name} --overwrite`, then train again"
    try:
        found = load_embeddings(data, name)
    except SeqloomError as error:
        checks.judge(f"embeddings {name!r}", _ITEMS, False, good="", bad=str(error), action=again)
        return
    blind = training_only(data)
    _Embeddings(data, blind, found, checks, again, encode, progress).check()


class _Embeddings:
    """The checks of one embedding."""

    def __init__(
        self,
        data: Dataset,
        blind: Dataset,
        found: TextEmbeddings,
        checks: Checks,
        again: str,
        encode: bool,
        progress: Progress,
    ) -> None:
        self.data, self.blind, self.found, self.checks = data, blind, found, checks
        self.again, self.encode, self.progress = again, encode, progress

    def check(self) -> None:
        manifest = self.found.manifest
        self._prompts("items", manifest.items, self.found.items)
        if manifest.users is None or self.found.users is None:
            return
        if manifest.users.mode == "mean":
            self._means(manifest.users, self.found.users)
        else:
            self._prompts("users", manifest.users, self.found.users)
        self._neighbours(self.found.users)

    def _prompts(self, part: str, told: PartManifest, vectors: Tensor) -> None:
        what = (f"prompts of {part}, {self.found.name!r}", _ITEMS if part == "items" else _USERS)
        if told.saw.startswith(UNKNOWN_SOURCE) or told.template is None:
            self.checks.unknown(*what, told.saw, "embed with seqloom to be sure")
            return
        prompts = self._render(part, told)
        if prompts is None:
            self.checks.unknown(*what, "made by an older seqloom, which kept no limits", self.again)
            return
        expected = content_hash_of(self.found.manifest.encoder, prompts.texts)
        recorded = told.training in (None, self.data.training_hash)
        self.checks.judge(
            *what,
            expected == told.content_hash and recorded,
            good=f"{len(prompts.texts)} texts rendered again have the manifest's hash",
            bad="the texts that were embedded are not those that what it may see gives"
            if recorded
            else "they are of another training part",
            action=self.again,
        )
        self._sample(part, prompts, vectors)

    def _render(self, part: str, told: PartManifest) -> PromptTexts | None:
        assert told.template is not None
        if part == "items":
            return item_prompts(self.blind, told.template)
        if told.max_items is None or told.max_words is None:
            return None
        return user_prompts(
            self.blind, told.template, max_items=told.max_items, max_words=told.max_words
        )

    def _sample(self, part: str, prompts: PromptTexts, vectors: Tensor) -> None:
        saw = _ITEMS if part == "items" else _USERS
        what = (f"vectors of {part}, {self.found.name!r}", saw)
        kind = self.found.manifest.encoder.get("kind")
        if not self.encode or kind == "openai":
            why = "not asked for" if not self.encode else "an endpoint may charge for each text"
            self.checks.unknown(*what, f"no text was encoded again: {why}")
            return
        rows = [row for row in _sample(len(vectors), part) if prompts.texts[row] is not None]
        try:
            encoder = rebuild_encoder(self.found.manifest.encoder, self.progress)
            made = encoder.encode([prompts.texts[row] or "" for row in rows])
        except SeqloomError as error:
            self.checks.unknown(*what, f"the encoder is not here: {error}")
            return
        alike = torch.cosine_similarity(made, vectors[rows]) if rows else torch.ones(1)
        self.checks.judge(
            *what,
            float(alike.min()) >= _ALIKE,
            good=f"{len(rows)} texts encoded again give the vectors that are kept",
            bad=f"of {len(rows)} texts encoded again {int((alike < _ALIKE).sum())} give other vectors",
            action=self.again,
        )

    def _means(self, told: PartManifest, vectors: Tensor) -> None:
        made = mean_of_items(self.blind.train, self.found.items)
        off = ~torch.isclose(made, vectors, rtol=1e-4, atol=1e-5).all(dim=1)
        self.checks.judge(
            f"vectors of users, {self.found.name!r}",
            _USERS,
            not bool(off.any()) and told.training in (None, self.data.training_hash),
            good="the means of the training items, made again, are those that are kept",
            bad=f"{int(off.sum())} users have another mean than that of their training items",
            action=self.again,
        )

    def _neighbours(self, users: Tensor) -> None:
        rows = torch.tensor(_sample(len(users), "neighbours"))
        for kept in load_similar_users(self.found.path):
            k = kept.users.shape[1]
            what = (f"{k} similar users, {self.found.name!r}", "user embeddings")
            if kept.saw.startswith(UNKNOWN_SOURCE):
                self.checks.unknown(*what, kept.saw, f"delete {kept.file.name} to be sure")
                continue
            if kept.users.shape != (len(users), k):
                good, bad = False, "they are of another number of users"
            elif kept.recall is None:
                good, bad = _found_again(users, kept.users[rows], rows)
            else:
                good, bad = _found_mostly(users, kept.users[rows], rows, kept.recall.target)
            self.checks.judge(
                *what,
                good,
                good=f"found again for {len(rows)} users"
                if kept.recall is None
                else f"approximate: {kept.recall.target:.0%} or more are found again for {len(rows)} users",
                bad=bad,
                action=f"delete {kept.file} and train again",
            )


def _found_again(users: Tensor, kept: Tensor, rows: Tensor) -> tuple[bool, str]:
    """Whether exact neighbours are those of another search. Shapes: kept [R, k], rows [R]."""
    same = (kept == top_similar(users, kept.shape[1], of=rows)).all(dim=1)
    bad = f"of {len(rows)} users {int((~same).sum())} have other neighbours when searched again"
    return bool(same.all()), bad


def _found_mostly(users: Tensor, kept: Tensor, rows: Tensor, target: float) -> tuple[bool, str]:
    """Whether approximate neighbours stand in the order of their similarity, and are as many of the exact
    ones as they were to be. Shapes: kept [R, k], rows [R]."""
    found = cosines(users, rows, kept)
    ordered = (found.diff(dim=1) <= _EQUAL).all(dim=1) & (kept != rows[:, None]).all(dim=1)
    last = cosines(users, rows, top_similar(users, kept.shape[1], of=rows))[:, -1:]
    share = (found >= last - _EQUAL).double().mean(1)  # [R], of each user's
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
    """Up to `_SAMPLE` row numbers, the same at every audit."""
    chosen = torch.randperm(rows, generator=generator(0, "audit", what))[:_SAMPLE]
    return sorted(chosen.tolist())
