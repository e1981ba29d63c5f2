"""`evaluate --exact`: measures the loss of a beam search's lists against scores of the whole catalogue."""

from __future__ import annotations

import time
from pathlib import Path

from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.core.files import write_json
from seqloom.core.locks import writing
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import ListScorer, Scorer
from seqloom.data.store import Dataset, HeldOut, Part
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.ranking import Ranks, rank_targets
from seqloom.pipelines.evaluate.evaluate import trained_scorer
from seqloom.reports.sample_users import draw_users
from seqloom.runs.folder import Run, load_run

LIST_LENGTH = 10
_SEED = 0


class ListLoss(Config):
    """Metrics of lists and of exact scores over the same users."""

    run: str
    system: str
    part: Part
    users: int
    list_size: int
    """Length of a list (beams of a beam search)."""
    metrics: dict[str, float]
    """Metrics of exact scores."""
    list_metrics: dict[str, float]
    """Metrics of lists; a target outside its list has the last rank."""
    same_top10: float
    """Share of users whose lists begin with the same ten items as the exact ranking, in any order."""
    recall10: float
    """Share of the first ten items of the exact ranking that the first ten of the list contain."""
    exact_seconds: float
    list_seconds: float
    list_users_per_s: float


def evaluate_exact(
    run: Run | str | Path,
    *,
    on: Part = "test",
    sample: int | None = None,
    mask_seen: bool | None = None,
    dataset: Dataset | str | Path | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> ListLoss:
    """Ranks held-out targets by lists and by exact scores, and writes `exact.json` into the run.

    `sample` draws this number of users at random, with a fixed seed.

    Raises:
        ConfigError: the system scores the whole catalogue in any case, or there is no target.
    """
    run = run if isinstance(run, Run) else load_run(run, device=device)
    scorer = trained_scorer(run)
    if not isinstance(scorer, ListScorer):
        raise ConfigError(
            f"a run of {run.manifest.system!r} with these settings scores the whole catalogue, so "
            "its lists are exact; evaluate it without --exact"
        )
    data = (dataset if isinstance(dataset, Dataset) else run.dataset(dataset)).warm
    held_out = _sample_users(data, on, sample)

    def rank(scorer: Scorer) -> tuple[Ranks, float]:
        started = time.monotonic()
        ranks = rank_targets(
            scorer,
            held_out,
            popularity=data.popularity[1:],
            max_len=run.system.max_len,
            mask_seen=run.manifest.mask_seen if mask_seen is None else mask_seen,
            list_length=LIST_LENGTH,
            keys=data.tie_keys,
            device=run.device,
            progress=progress,
        )
        return ranks, time.monotonic() - started

    lists, list_seconds = rank(scorer)
    exact, exact_seconds = rank(scorer.exact_scorer())
    loss = ListLoss(
        run=str(run.path),
        system=run.manifest.system,
        part=on,
        users=len(held_out.users),
        list_size=scorer.list_size,
        metrics=rank_metrics(exact.ranks),
        list_metrics=rank_metrics(lists.ranks),
        **_list_agreement(lists.lists, exact.lists),
        exact_seconds=round(exact_seconds, 3),
        list_seconds=round(list_seconds, 3),
        list_users_per_s=round(len(held_out.users) / list_seconds, 1),
    )
    with writing(run.path):
        write_json(run.path / "exact.json", loss.model_dump(mode="json"), sealed=True)
    return loss


def _sample_users(data: Dataset, on: Part, sample: int | None) -> HeldOut:
    held_out = data.held_out(on)
    if not len(held_out.users):
        raise ConfigError(f"the data set has no {on} events; prepare it with another split")
    if sample is None or sample >= len(held_out.users):
        return held_out
    return held_out.select(draw_users(data, held_out.users, sample, _SEED, "exact").sort().values)


def _list_agreement(lists: Tensor, exact: Tensor) -> dict[str, float]:
    """Compares the lists with the exact ones. Shapes: [R, k], [R, k]."""
    common = _count_common(lists, exact)
    lengths = (exact > 0).sum(1)
    return {
        "same_top10": float((common == lengths).double().mean()),
        "recall10": float(common.sum() / lengths.sum().clamp(min=1)),
    }


def _count_common(first: Tensor, second: Tensor) -> Tensor:
    """Counts the items that both lists of a row contain. Shapes: [R, k], [R, k] -> [R]."""
    return ((first[:, :, None] == second[:, None, :]) & (first > 0)[:, :, None]).sum((1, 2))
