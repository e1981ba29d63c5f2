"""`evaluate --zero-shot`: evaluates a recommender on a data set that it was not trained on."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError, ConfigError, SeqloomError
from seqloom.core.files import write_json
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.locks import writing
from seqloom.core.progress import Progress
from seqloom.core.protocols import NamesItems
from seqloom.core.tensors import differing_tensors, tensor_fingerprints
from seqloom.data.store import Dataset, HeldOut, Part
from seqloom.evaluation.metrics import per_user, rank_metrics
from seqloom.evaluation.protocol import RankingProtocol
from seqloom.evaluation.ranking import rank_targets
from seqloom.evaluation.ranks_file import build_rank_table, write_ranks
from seqloom.evaluation.significance import paired_test
from seqloom.runs.folder import Run, load_run
from seqloom.runs.lineage import lineage_of_run
from seqloom.systems.popularity import PopularityScorer

METRIC = "ndcg@10"


class AgainstPopularity(Config):
    """NDCG@10 of the recommender minus that of popularity, paired over users."""

    difference: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    p_value: float


class ZeroShot(Config):
    """Metrics of the recommender without training on the data set, and of baselines."""

    run: str
    dataset: str
    statement: str
    """The protocol in sentences."""
    users: int
    items: int
    systems: dict[str, dict[str, float]]
    """Metrics of `zero-shot`, of `popularity` (which knows the new data's training part), and of
    `untrained`: the same model over the same IDs with the weights before its training (those of the run
    `start_from`, if it continued one)."""
    against_popularity: AgainstPopularity
    ids: dict[str, int]
    """Items by the source of their new IDs: greedy, diverse, extended."""
    ids_seconds: float
    seconds: float
    """Time to rank with the recommender."""


@public_function()
def zero_shot(
    run: Run | str | Path,
    dataset: Dataset | str | Path,
    *,
    on: Part = "test",
    mask_seen: bool | None = None,
    device: str = "auto",
    progress: Progress = AUTO,
) -> ZeroShot:
    """Names the items of `dataset` and recommends them with the run, without training.

    Seen items are masked as the data set decides, or by `mask_seen`.

    Writes `zero-shot-<data set>.json` and `.parquet` (ranks) into the run.

    Raises:
        ConfigError: the system knows items by number only, it was trained on this data set or its
            events, or there is no target.
        ArtefactError: the data sets of the run's training cannot be traced.
    """
    run = run if isinstance(run, Run) else load_run(run, device=device)
    data = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    system = _require_naming(run, data)
    masked = data.masks_seen if mask_seen is None else mask_seen
    held_out = _held_out(data, on)
    started = time.monotonic()
    ids, statistics = system.new_ids(system.texts_of(data.items), data.item_ids, progress)
    ids_seconds = time.monotonic() - started

    rank = partial(
        rank_targets,
        held_out=held_out,
        popularity=data.popularity[1:],
        max_len=system.max_len,
        mask_seen=masked,
        device=run.device,
        progress=progress,
    )
    started = time.monotonic()
    ranks = {"zero-shot": rank(system.scorer_of_ids(ids, items=data.items)).ranks}
    seconds = time.monotonic() - started
    popularity = PopularityScorer(data.popularity[1:].double().to(run.device))
    ranks["popularity"] = rank(popularity).ranks
    untrained = _starting_recommender(run, system)
    if not isinstance(untrained, str):
        ranks["untrained"] = rank(system.scorer_of_ids(ids, untrained)).ranks
    protocol = RankingProtocol(
        part=on, masked=masked, split=data.split, fingerprint=data.fingerprint
    )
    result = ZeroShot(
        run=str(run.path),
        dataset=str(data.path),
        statement=_statement(untrained, protocol),
        users=len(held_out.users),
        items=data.num_items,
        systems={name: rank_metrics(each) for name, each in ranks.items()},
        against_popularity=_test_against(ranks["popularity"], ranks["zero-shot"]),
        ids={name: getattr(statistics, name) for name in ("greedy", "diverse", "extended")},
        ids_seconds=round(ids_seconds, 3),
        seconds=round(seconds, 3),
    )
    _write(run, data, result, protocol, held_out, ranks["zero-shot"])
    return result


def _held_out(data: Dataset, on: Part) -> HeldOut:
    held_out = data.held_out(on)
    if not len(held_out.users):
        raise ConfigError(f"{data.path} has no {on} events; prepare it with another split")
    return held_out


def _statement(untrained: nn.Module | str, protocol: RankingProtocol) -> str:
    """Describes the evaluation; `untrained` is why the untrained model is left out, if it is."""
    left_out = (
        f" The model before training is left out: {untrained}."
        if isinstance(untrained, str)
        else ""
    )
    return f"Zero-shot: nothing of this data set was trained on.{left_out} {protocol.statement()}"


def _require_naming(run: Run, data: Dataset) -> NamesItems:
    """Returns the system of the run, which must be able to recommend items of `data`."""
    system = run.system
    if not isinstance(system, NamesItems):
        raise ConfigError(
            f"{run.path} is a run of {run.manifest.system!r}, which knows only its own items; zero-shot "
            "needs a run of 'idgenrec'"
        )
    lineage = lineage_of_run(run.path)
    known = lineage.holds(data)
    if known is not None:
        what = (
            "it" if known.fingerprint == data.fingerprint else f"{known.name}, of the same events,"
        )
        raise ConfigError(
            f"{run.path} was trained on {data.path} ({what} is one of the data sets that it, or a run that "
            "it continued, was trained on), so nothing is zero-shot there; leave --zero-shot out, or give a "
            "data set that it was not trained on"
        )
    if lineage.unknown:
        raise ArtefactError(
            f"it is unknown what {run.path} was trained on, so nothing can be called zero-shot: "
            f"{'; '.join(lineage.unknown)}. Move the folder back, or train again"
        )
    return system


def _starting_recommender(run: Run, system: NamesItems) -> nn.Module | str:
    """Makes the recommender before training again; returns the reason if that is impossible."""
    try:
        model = system.starting_recommender()
    except SeqloomError as error:
        return str(error)
    kept = {n: m for n, m in run.manifest.start.items() if n.startswith("recommender.")}
    remade = tensor_fingerprints({f"recommender.{n}": v for n, v in model.state_dict().items()})
    if kept and differing_tensors(kept, remade):
        return "its weights, made again, differ from those that the run recorded at its start"
    return model


def _test_against(popular: Tensor, ranks: Tensor) -> AgainstPopularity:
    test = paired_test(per_user(METRIC, popular), per_user(METRIC, ranks))
    return AgainstPopularity(
        difference=test.difference, low=test.low, high=test.high, p_value=test.p_value
    )


def _write(
    run: Run,
    data: Dataset,
    result: ZeroShot,
    protocol: RankingProtocol,
    held_out: HeldOut,
    ranks: Tensor,
) -> None:
    suffix = "" if protocol.part == "test" else "-valid"
    name = f"zero-shot-{data.path.resolve().name}{suffix}"
    table = build_rank_table(
        data,
        protocol,
        users=held_out.users,
        targets=held_out.targets,
        ranks=ranks,
        history_lengths=held_out.histories.lengths,
        repeats=held_out.repeats,
        tied=held_out.tied,
    )
    with writing(run.path):
        write_ranks(run.path / f"{name}.parquet", table)
        write_json(run.path / f"{name}.json", result.model_dump(mode="json"), sealed=True)
