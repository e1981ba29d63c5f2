"""`demo`: runs all stages on MovieLens-100K; reuses the results of an earlier call."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from seqloom.core.config import Config
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.data.store import Dataset
from seqloom.evaluation.compare import Comparison
from seqloom.hub.assets import resolve
from seqloom.pipelines.compare.compare import compare
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.evaluate.stored import Evaluation
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare, statistics_table
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run

DATA = "ml-100k"
ENCODER = "all-minilm-l6-v2"
SYSTEMS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "sasrec": {"batch_size": 32, "encoder": {"hidden_size": 64}, "patience": 3},
    "llmesr": {
        "batch_size": 32,
        "encoder": {"hidden_size": 64},
        "patience": 3,
        "semantic": {
            "tower": {"batch_size": 32, "encoder": {"hidden_size": 64}, "patience": 3, "epochs": 30}
        },
    },
}
"""The systems to train and their configurations. MovieLens has few and long histories, so batches and
width are smaller than the defaults. A short patience keeps the demo to minutes: with the default one both
systems train longer and rank better."""
REFERENCE = "sasrec"
USERS = 3


class DemoRun(Config):
    """A run of the demo, with its results on the test part."""

    name: str
    run: str
    """The run's folder."""
    ndcg: float
    """NDCG@10 of all users."""
    ndcg_tail_items: float | None
    """NDCG@10 of the users whose target is a tail item."""
    seconds: float
    """Seconds of training."""


class DemoSummary(Config):
    """The result of `demo`."""

    folder: str
    report: str
    """The HTML report."""
    seconds: float
    ranking: list[DemoRun]
    """The runs, best NDCG@10 first."""
    statistics: dict[str, str]
    results: list[dict[str, Any]]
    """One row for each system and group of users."""
    findings: list[str]
    """The verdict, its evidence, each comparison, and what to be careful about."""
    recommendations: list[dict[str, Any]]
    """For a few users: their last items and the recommendations of LLM-ESR."""


@public_function()
def demo(folder: str | Path, *, progress: Progress = AUTO) -> DemoSummary:
    """Prepares, embeds, trains, evaluates, compares and recommends under `folder`.

    Raises:
        AssetError: the data or the text encoder cannot be fetched.
    """
    started = time.monotonic()
    folder = Path(folder)
    dataset = _prepare(folder / "data", progress)
    embed(dataset, EmbedOptions(encoder=ENCODER), progress=progress)
    runs = {}
    for system, config in SYSTEMS.items():
        out = folder / "runs" / system
        begun = out.exists()
        train(dataset, system, config=config, out=out, resume=begun, progress=progress)
        runs[system] = load_run(out)
    report = folder / "report.html"
    order = [REFERENCE, *(name for name in runs if name != REFERENCE)]
    evaluations = {name: evaluate(runs[name], progress=progress) for name in order}
    comparison = compare([runs[name] for name in order], report=report, progress=progress)
    ranking = [_ranked(runs[name], evaluation) for name, evaluation in evaluations.items()]
    return DemoSummary(
        folder=str(folder),
        report=str(report),
        seconds=round(time.monotonic() - started, 1),
        ranking=sorted(ranking, key=lambda row: row.ndcg, reverse=True),
        statistics=dict(statistics_table(dataset)),
        results=_rows(evaluations),
        findings=_sentences(comparison),
        recommendations=_recommendations(folder / "runs" / "llmesr", dataset),
    )


def _prepare(out: Path, progress: Progress) -> Dataset:
    if out.exists():
        return Dataset.load(out)
    source = resolve(DATA, progress=progress)
    return prepare(source, out, options=PrepareOptions(format="recbole"), progress=progress)


def _ranked(run: Run, evaluation: Evaluation) -> DemoRun:
    tail = evaluation.groups["tail_item"]["metrics"] or {}
    return DemoRun(
        name=run.name,
        run=str(run.path),
        ndcg=evaluation.metrics["ndcg@10"],
        ndcg_tail_items=tail.get("ndcg@10"),
        seconds=run.manifest.cost.seconds_total,
    )


def _rows(evaluations: dict[str, Evaluation]) -> list[dict[str, Any]]:
    rows = []
    for name, evaluation in evaluations.items():
        everyone = {"users": evaluation.users, "metrics": evaluation.metrics}
        parts = {"all": everyone, **evaluation.groups}
        for group, part in parts.items():
            metrics = part["metrics"] or {}
            row = {"system": name, "group": group, "users": part["users"]}
            rows.append({**row, **{m: metrics.get(m) for m in ("hr@10", "ndcg@10", "mrr")}})
    return rows


def _sentences(comparison: Comparison) -> list[str]:
    verdict = comparison.verdict
    return [
        verdict.headline,
        *verdict.evidence,
        *(pair.sentence for pair in comparison.pairs),
        " ".join(verdict.cautions),
    ]


def _recommendations(run: Path, dataset: Dataset) -> list[dict[str, Any]]:
    users = dataset.user_ids[:: max(1, dataset.num_users // USERS)][:USERS]
    loaded = load_run(run)
    titles = dict(zip(loaded.item_ids, loaded.titles, strict=True))
    rows = []
    for user, answer in zip(users, recommend(loaded, users=users, k=5), strict=True):
        number = dataset.user_numbers[user]
        last = dataset.train.select(dataset.events.offsets.new_tensor([number])).tail(3).flat()[1]
        seen = [dataset.item_ids[i - 1] for i in last.tolist()]
        rows.append(
            {
                "user": user,
                "saw": "; ".join(titles.get(i) or i for i in seen),
                "recommended": "; ".join(item.title or item.item_id for item in answer.items),
            }
        )
    return rows
