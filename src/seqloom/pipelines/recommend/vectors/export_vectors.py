"""`export --to`: item vectors and user states for a search outside seqloom, with the recall measured."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import torch
from pydantic import Field
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.core.files import atomic_folder, write_json
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.protocols import VectorScorer
from seqloom.core.tabular import Tabular
from seqloom.data.store import Dataset
from seqloom.pipelines.recommend.export import export_states
from seqloom.pipelines.recommend.vectors.items import item_vectors
from seqloom.pipelines.recommend.vectors.target import (
    EXACT_BELOW,
    Index,
    Place,
    TargetName,
    VectorTarget,
    target_class,
)
from seqloom.runs.ann_scorer import sample_histories
from seqloom.runs.folder import Run, load_run

STATES, MANIFEST = "states.onnx", "export.json"
_GOOD_RECALL = 0.95
"""A lower recall is a warning."""
_EQUAL = 1e-4
"""Relative difference of two scores that counts as a tie in the recall."""


class ExportedVectors(Tabular, Config):
    """Item vectors in a target, and how well it finds the best of them."""

    to: TargetName
    out: str
    """The folder with the files of the export."""
    url: str | None
    """The server, without user and password; None where all is in the folder."""
    name: str
    """The table or collection."""
    run: str
    items: int
    width: int
    """Dimensions of the vectors. The score is the inner product."""
    index: str
    """`exact` or `hnsw`."""
    recall: float = Field(ge=0, le=1)
    """Share of the exact list that the target's search finds, over the sample; of equal scores any counts."""
    k: int
    """Length of the lists in the sample."""
    queries: int
    """Number of histories in the sample."""
    histories: str
    """Where the histories of the sample are from."""
    states: str | None
    """The ONNX model that turns a history into a state; None if it was left out."""
    max_len: int | None = None
    """The longest history that it reads."""
    difference: float | None = None
    """Largest difference of its scores from torch's."""
    search: str
    """A line of code that searches with a state."""

    def headline(self) -> str:
        """Returns what was exported, on one line."""
        return f"Vectors of {Path(self.run).name} in {self.to}"

    def facts(self) -> dict[str, object]:
        """Returns the size, the index and the recall."""
        return {
            "items": self.items,
            "width": self.width,
            "index": self.index,
            f"recall@{self.k}": self.recall,
        }


@public_function()
def export_vectors(
    run: Run | str | Path,
    out: str | Path,
    *,
    to: TargetName,
    url: str | None = None,
    name: str | None = None,
    index: Index = "auto",
    states: bool = True,
    k: int = 10,
    sample: int = 256,
    dataset: Dataset | str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = AUTO,
) -> ExportedVectors:
    """Writes the item vectors of a run with ids and texts into a target, and measures its recall.

    The score of an item is the inner product of its vector and a user's state. `states.onnx` in `out` turns
    a history of item numbers into a state. The recall compares the target's own search with the exact
    lists of the run, for histories of its data set and without leaving out seen items.

    Args:
        out: a folder for what is written on this machine: the files of faiss, parquet, lancedb and an
            embedded Qdrant, the model of the states, and `export.json`.
        to: `faiss`, `parquet`, `qdrant`, `pgvector` or `lancedb`.
        url: address of the server: `postgresql://...` for pgvector, `http://...` for Qdrant (key in
            QDRANT_API_KEY).
        name: table or collection; by default the name of the run.
        index: `hnsw` for an approximate index, `exact` for none; `auto` chooses by the number of items.
            Parquet has none, and an embedded Qdrant is exact.
        states: whether to write `states.onnx`, which needs `seqloom[onnx]` and a system over a sequence
            encoder.
        k: length of the lists whose recall is measured.
        sample: number of histories that it is measured on.
        dataset: where the data set of the run is now.

    Raises:
        ConfigError: the system has no item vectors, the library of the target is missing, the server
            cannot be reached, or the table exists.
        ArtefactError: `out` exists and `overwrite` is false.
    """
    run = run if isinstance(run, Run) else load_run(run)
    cls = target_class(to)
    if cls.needs_url and url is None:
        raise ConfigError(f"{to} is a server; give its address with url")
    if url is not None and not cls.takes_url:
        raise ConfigError(f"{to} is written into files and has no server; leave url out")
    items = item_vectors(run)
    hnsw = index == "hnsw" or (index == "auto" and len(items.vectors) > EXACT_BELOW)
    place = Place(Path(out), url, name or _table_name(run.name), hnsw, overwrite)
    cls(place)
    exact_alone = to == "parquet" or (to == "qdrant" and url is None)
    with atomic_folder(Path(out), overwrite=overwrite) as work:
        target = cls(replace(place, folder=work))
        with progress.task(f"write to {to}", 1, "tables") as task:
            target.write(items)
            task.advance()
        recall, count, source = _recall(run, target, k, sample, dataset, progress)
        if recall < _GOOD_RECALL:
            progress.warn(
                f"the search of {to} finds {recall:.1%} of the exact lists; index='exact' finds all"
            )
        max_len = difference = None
        if states:
            with _naming_the_way_out():
                max_len, difference = export_states(run, work / STATES)
        result = ExportedVectors(
            to=to,
            out=str(out),
            url=None if url is None else _without_user(url),
            name=place.name,
            run=str(run.path),
            items=len(items.vectors),
            width=items.width,
            index="hnsw" if hnsw and not exact_alone else "exact",
            recall=recall,
            k=k,
            queries=count,
            histories=source,
            states=STATES if states else None,
            max_len=max_len,
            difference=difference,
            search=cls(
                replace(place, url=None if url is None else _without_user(url))
            ).how_to_search(),
        )
        write_json(work / MANIFEST, result.model_dump(mode="json"))
    return result


@torch.inference_mode()
def _recall(
    run: Run,
    target: VectorTarget,
    k: int,
    sample: int,
    dataset: Dataset | str | Path | None,
    progress: Progress,
) -> tuple[float, int, str]:
    """Returns the recall of the target's search, the number of histories, and their source."""
    scorer = run.scorer
    assert isinstance(scorer, VectorScorer)
    histories, source = sample_histories(run, dataset)
    histories = histories.select(torch.arange(min(sample, len(histories))))
    k = min(k, scorer.num_items)
    batch = histories.pad(run.system.max_len).to(run.device)
    states = scorer.queries(batch.items, batch.lengths).float().cpu()
    with progress.task("measure the recall", 1, "samples") as task:
        lists = target.search(states.numpy(), k)
        task.advance()
    scores = states @ scorer.item_vectors.float().cpu().t()
    return _share_of_best(scores, lists, run.item_numbers, k), len(histories), source


def _share_of_best(
    scores: Tensor, lists: list[list[str]], numbers: dict[str, int], k: int
) -> float:
    """Returns the share of the k best items that the lists hold; equal scores stand for one another.

    Shapes: scores [B, N].
    """
    last = scores.topk(k, dim=1).values[:, -1]
    floor = last - _EQUAL * last.abs().clamp(min=_EQUAL)
    found = 0
    for row, (ids, least) in enumerate(zip(lists, floor.tolist(), strict=True)):
        at = [numbers[each] - 1 for each in dict.fromkeys(ids) if each in numbers][:k]
        found += int((scores[row, at] >= least).sum())
    return found / (k * len(lists))


@contextlib.contextmanager
def _naming_the_way_out() -> Iterator[None]:
    """Adds to an error of the ONNX export how to do without it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{error}; or leave the model out with states=False") from None


def _table_name(run: str) -> str:
    return re.sub(r"\W+", "_", run.lower()).strip("_") or "items"


def _without_user(url: str) -> str:
    """Returns a URL without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
