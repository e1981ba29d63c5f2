"""The tools: typed functions over an engine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from seqloom.core.damage import reading
from seqloom.core.errors import ConfigError, DataError
from seqloom.core.files import read_json
from seqloom.evaluation.metrics import per_user
from seqloom.evaluation.ranks_file import RankTable, read_ranks
from seqloom.evaluation.significance import paired_test
from seqloom.llm.explaining.evidence import template_sentences
from seqloom.runs.steering import DEFAULT_WEIGHT
from seqloom.serving.config import LimitsConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import (
    Answer,
    Explain,
    Explanation,
    Query,
    Recommend,
    Scored,
    Similar,
)
from seqloom.serving.engine.titles import Titles
from seqloom.serving.engine.wording import evidence_of
from seqloom.serving.mcp.replies import (
    ComparedMetric,
    ComparedModels,
    Contribution,
    FoundItems,
    Item,
    ListedItem,
    Reason,
    RecommendedList,
    SimilarItems,
)

LONGEST_LIST = 100
_METRICS = ("ndcg@10", "hr@10", "mrr")
_CARRIED = 10


class Tools:
    """The tools of an MCP server over one engine.

    Every method raises `SeqloomError` with a message for the assistant.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._titles = Titles(engine)
        self._limits = LimitsConfig()

    async def recommend(
        self,
        user_id: str | None = None,
        history: list[str] | None = None,
        k: int = 10,
        about: str | None = None,
        about_weight: float = DEFAULT_WEIGHT,
        candidates: list[str] | None = None,
        exclude: list[str] | None = None,
        model: str | None = None,
    ) -> RecommendedList:
        """Recommends items to a known user, or after a history of item ids (oldest first).

        Give exactly one of user_id and history. `about` is a sentence that steers the list, such as
        "a gift for a gardener, nothing with perfume"; `about` in the answer says how it was understood.
        """
        self._check_subject(user_id, history)
        self._check_k(k)
        self._check_length("candidates", candidates, self._limits.max_candidates)
        self._check_length("exclude", exclude, self._limits.max_candidates)
        query = Recommend(
            user_id=user_id,
            history=None if history is None else tuple(history),
            k=k,
            exclude=tuple(exclude or ()),
            candidates=None if candidates is None else tuple(candidates),
            about=about,
            about_weight=about_weight,
        )
        answer: Answer = await self._ask(model, query)
        return RecommendedList(
            model=answer.model,
            items=self._listed(answer.served, answer.items),
            history_length=answer.history_length,
            unknown=answer.unknown,
            fallback=answer.fallback,
            about=answer.about,
        )

    async def similar(self, item_id: str, k: int = 10, model: str | None = None) -> SimilarItems:
        """Lists the items most like one item, as the model sees it."""
        self._check_k(k)
        answer: Answer = await self._ask(model, Similar(item_id, k))
        items = self._listed(answer.served, answer.items)
        return SimilarItems(model=answer.model, items=items, method=answer.method)

    async def explain(
        self,
        user_id: str | None = None,
        history: list[str] | None = None,
        item_id: str | None = None,
        model: str | None = None,
    ) -> Reason:
        """Explains why an item is recommended (the best one without item_id).

        Each item of the history is left out in turn; `change` is what the score loses without it.
        """
        self._check_subject(user_id, history)
        given = None if history is None else tuple(history)
        reason: Explanation = await self._ask(model, Explain(user_id, given, item_id))
        served = reason.served
        return Reason(
            model=served.name,
            item=self._item(served, reason.item_id),
            rank=reason.rank,
            history=[
                Contribution(
                    item_id=each.item_id,
                    title=self._titles.title(served, each.item_id),
                    change=each.change,
                )
                for each in reason.history[:_CARRIED]
            ],
            views={name: part.share for name, part in reason.views.items()},
            words=" ".join(template_sentences(evidence_of(reason, self._titles.title))),
        )

    async def search_items(
        self, query: str, limit: int = 20, model: str | None = None
    ) -> FoundItems:
        """Finds items whose titles hold words that begin like those of the query, the popular ones first."""
        self._check_k(limit, "limit")
        served = self._engine.model(model)
        found = await asyncio.to_thread(self._titles.find, served, query[:200], limit)
        return FoundItems(items=[Item(**each) for each in found])

    async def compare(self, first: str, second: str) -> ComparedModels:
        """Compares two served models by their stored evaluations: which ranks held-out items better.

        Both must have been evaluated with `seqloom evaluate`, on the same data under the same protocol.
        """
        models = [self._engine.model(name) for name in (first, second)]
        return await asyncio.to_thread(_compare, *models)

    async def _ask(self, model: str | None, query: Query) -> Any:
        return await asyncio.wrap_future(self._engine.submit(model, query))

    def _listed(self, served: ServedModel, items: list[Scored]) -> list[ListedItem]:
        return [
            ListedItem(
                item_id=item.item_id,
                title=self._titles.title(served, item.item_id),
                score=item.score,
            )
            for item in items
        ]

    def _item(self, served: ServedModel, item_id: str) -> Item:
        return Item(item_id=item_id, title=self._titles.title(served, item_id))

    def _check_subject(self, user_id: str | None, history: list[str] | None) -> None:
        if (user_id is None) == (history is None):
            raise ConfigError("give exactly one of user_id and history")
        self._check_length("history", history, self._limits.max_history)

    def _check_length(self, name: str, ids: list[str] | None, most: int) -> None:
        if ids is not None and len(ids) > most:
            raise ConfigError(f"{name} has {len(ids)} entries; at most {most} are allowed")

    def _check_k(self, k: int, name: str = "k") -> None:
        if not 1 <= k <= LONGEST_LIST:
            raise ConfigError(f"{name} is {k}; it must be between 1 and {LONGEST_LIST}")


def _compare(first: ServedModel, second: ServedModel) -> ComparedModels:
    """Tests the stored ranks of two runs against each other, user by user."""
    tables = [_ranks(model) for model in (first, second)]
    differing = tables[0].protocol.differences(tables[1].protocol)
    if differing or not tables[0].user_ids.equals(tables[1].user_ids):
        reason = "; ".join(differing) or "other users"
        raise DataError(f"{first.name} and {second.name} cannot be compared: {reason}")
    metrics = []
    for name in _METRICS:
        test = paired_test(*(per_user(name, table.ranks) for table in tables))
        metrics.append(
            ComparedMetric(
                metric=name,
                first=test.first,
                second=test.second,
                difference=test.difference,
                low=test.low,
                high=test.high,
                p=test.p_value,
            )
        )
    return ComparedModels(
        first=first.name,
        second=second.name,
        users=len(tables[0]),
        protocol=tables[0].protocol.statement(),
        metrics=metrics,
    )


def _ranks(model: ServedModel) -> RankTable:
    file: Path = model.run.path / "ranks.parquet"
    if not file.exists():
        raise DataError(
            f"{model.name} has no evaluation of the test part; run `seqloom evaluate` on its folder"
        )
    evaluation = read_json(file.with_name("metrics.json"), "evaluation")
    if evaluation.get("weights_sha256") not in ("", model.run.manifest.evaluated_weights):
        raise DataError(f"{model.name} was trained since its evaluation; evaluate it again")
    with reading(file, "the ranks of an evaluation", "run `seqloom evaluate` on the run again"):
        return read_ranks(file)
