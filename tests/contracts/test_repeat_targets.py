"""Targets that the user had before: what every figure makes of them, against slow loops in float64."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest
import torch

from seqloom.core.errors import DataError
from seqloom.core.files import read_json, write_json
from seqloom.core.progress import SilentProgress
from seqloom.data.store import Dataset
from seqloom.evaluation.compare import compare_runs
from seqloom.evaluation.evaluated_run import EvaluatedRun
from seqloom.evaluation.negatives import sample_negatives
from seqloom.evaluation.ranks_file import read_ranks
from seqloom.evaluation.record import RunRecord
from seqloom.pipelines.audit import audit
from seqloom.pipelines.compare.compare import compare
from seqloom.pipelines.evaluate.evaluate import Evaluation, evaluate
from seqloom.pipelines.experiments.reproduce import reproduce
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from support.datasets import small_config, tiny_dataset

ITEMS = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """80 users, of whom about a third buy something again in the end."""
    draw = torch.Generator().manual_seed(7)
    rows = []
    for user in range(80):
        row = (torch.randperm(ITEMS, generator=draw)[: 5 + user % 7] + 1).tolist()
        if user % 3 == 0:
            row[-1] = row[1]
        if user % 4 == 0:
            row[-2] = row[0]
        rows.append(row)
    titles = [f"item {n}" for n in range(1, ITEMS + 1)]
    return tiny_dataset(tmp_path_factory.mktemp("repeats") / "data", rows, titles)


@pytest.fixture(scope="module")
def runs(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for system in ("popularity", "itemknn", "sasrec"):
        train(data, system, out=folder / system, config=small_config(system), device="cpu")
    members = [str(folder / "sasrec"), str(folder / "itemknn")]
    train(data, "ensemble", out=folder / "ensemble", config={"runs": members}, device="cpu")
    return folder


def slow_metrics(
    run: Run,
    data: Dataset,
    part: Literal["valid", "test"],
    masked: bool,
    negatives: torch.Tensor | None = None,
) -> dict[Any, Any]:
    """HR@10, NDCG@10 and MRR over all users, repeat targets and new ones, by loops."""
    held_out = data.held_out(part)
    gains: dict[str, list[Any]] = {"all": [], "repeat_target": [], "new_target": []}
    for row in range(len(held_out.users)):
        history = held_out.histories.select(torch.tensor([row]))
        target = int(held_out.targets[row])
        seen = set(history.flat()[1].tolist())
        batch = history.pad(run.system.max_len)
        scores = run.scorer.score(batch.items, batch.lengths)[0].double().tolist()
        drawn = range(1, ITEMS + 1) if negatives is None else negatives[row].tolist()
        rivals = {i for i in drawn if i and i != target and not (masked and i in seen)}
        rank = 1 + sum(scores[i - 1] >= scores[target - 1] for i in rivals)
        hit = rank <= 10 and not (masked and target in seen)
        mrr = 0.0 if masked and target in seen else 1 / rank
        gain = (float(hit), hit / math.log2(1 + rank), mrr)
        gains["all"].append(gain)
        gains["repeat_target" if target in seen else "new_target"].append(gain)
    return {
        group: [math.fsum(column) / len(column) for column in zip(*each, strict=True)]
        for group, each in gains.items()
    }


def figures(result: Evaluation) -> dict[Any, Any]:
    names = ("hr@10", "ndcg@10", "mrr")
    groups = {"all": result.metrics} | {
        group: result.groups[group]["metrics"] for group in ("repeat_target", "new_target")
    }
    return {group: [metrics[name] for name in names] for group, metrics in groups.items()}


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("protocol", ["full", "sampled"])
@pytest.mark.parametrize("system", ["popularity", "itemknn", "sasrec", "ensemble"])
def test_figures_and_groups_equal_the_loops(
    runs: Path, data: Dataset, system: str, protocol: Literal["full", "sampled"], masked: bool
) -> None:
    run = load_run(runs / system)
    result = evaluate(run, protocol=protocol, negatives=12, mask_seen=masked)
    users = data.held_out("test").users
    drawn = sample_negatives(data, users, 12) if protocol == "sampled" else None
    slow = slow_metrics(run, data, "test", masked, drawn)
    for group, values in figures(result).items():
        assert values == pytest.approx(slow[group], abs=1e-9), group
    if masked:
        assert figures(result)["repeat_target"] == [0.0, 0.0, 0.0]
        assert "a miss" in result.statement
    else:
        assert figures(result)["repeat_target"][2] > 0
    assert result.groups["repeat_target"]["users"] == 27
    assert result.groups["new_target"]["users"] == 53


def test_validation_while_training_is_what_the_protocol_can_recommend(
    runs: Path, data: Dataset
) -> None:
    """The figures that early stopping and the choice of weights go by."""
    run = load_run(runs / "sasrec")
    slow = slow_metrics(run, data, "valid", True)
    assert run.manifest.valid["hr@10"] == pytest.approx(slow["all"][0], abs=1e-9)
    assert run.manifest.valid["ndcg@10"] == pytest.approx(slow["all"][1], abs=1e-9)
    assert slow["repeat_target"] == [0.0, 0.0, 0.0]


def test_an_ensembles_weights_do_not_depend_on_repeats(
    runs: Path, data: Dataset, tmp_path: Path
) -> None:
    """Turn every repeated validation target into another repeat: the fit must not notice."""
    events = data.events
    items = events.items.clone()
    held_out = data.held_out("valid")
    for row in torch.nonzero(held_out.repeats).flatten().tolist():
        user = int(held_out.users[row])
        start, at = int(events.offsets[user]), int(events.valid[user])
        items[at] = items[start + 1]
    rows = [
        items[a:b].tolist()
        for a, b in zip(events.offsets[:-1].tolist(), events.offsets[1:].tolist(), strict=True)
    ]
    other = tiny_dataset(tmp_path / "data", rows, [f"item {n}" for n in range(1, ITEMS + 1)])
    assert int(held_out.repeats.sum()) > 10
    assert not torch.equal(other.events.items, events.items)
    for name in ("itemknn", "popularity"):
        train(other, name, out=tmp_path / name, device="cpu")
    result: list[Any] = []
    for dataset, folder in ((data, runs), (other, tmp_path)):
        config = {"runs": [str(folder / "itemknn"), str(folder / "popularity")]}
        train(dataset, "ensemble", out=tmp_path / f"e{len(result)}", config=config, device="cpu")
        result.append(load_run(tmp_path / f"e{len(result)}").system.weights)
    assert torch.equal(*result)


def test_the_ranks_file_marks_which_targets_are_repeats(runs: Path, data: Dataset) -> None:
    evaluate(runs / "itemknn")
    table = read_ranks(runs / "itemknn" / "ranks.parquet")
    held_out = data.held_out("test")
    assert torch.equal(table.repeats, held_out.repeats)
    frame = pq.read_table(runs / "itemknn" / "ranks.parquet").to_pydict()
    assert frame["repeat"] == held_out.repeats.tolist()
    # Other readers come to the same figures.
    hits = sum(rank <= 10 for rank in frame["rank"]) / len(frame["rank"])
    assert hits == pytest.approx(evaluate(runs / "itemknn").metrics["hr@10"])
    assert not any(
        r and rank < 10**6 for r, rank in zip(frame["repeat"], frame["rank"], strict=True)
    )


class Heard(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    warn = note


def made_before(run: Path) -> None:
    """Take out of a run's evaluation what only this version writes."""
    import pyarrow as pa

    file = run / "metrics.json"
    document = read_json(file, "evaluation")
    del document["details"]["version"]
    for hash_of in ("weights_sha256", "ranks_sha256"):
        del document[hash_of]
    document["metrics"] = dict.fromkeys(document["metrics"], 0.99)
    write_json(file, document)
    ranks = run / "ranks.parquet"
    frame = pq.read_table(ranks)
    about = json.loads(frame.schema.metadata[b"seqloom"])
    del about["protocol"]["version"]
    del about["columns"]
    frame = frame.drop_columns(["repeat"]).set_column(2, "rank", pa.array([1] * len(frame)))
    pq.write_table(frame.replace_schema_metadata({"seqloom": json.dumps(about)}), ranks)
    manifest = read_json(run / "manifest.json", "run")
    manifest.pop("valid_protocol", None)
    write_json(run / "manifest.json", manifest)


def test_ranks_of_the_former_protocol_are_never_mixed_in(runs: Path, tmp_path: Path) -> None:
    copies = [shutil.copytree(runs / name, tmp_path / name) for name in ("sasrec", "itemknn")]
    expected = [evaluate(copy).metrics for copy in copies]
    made_before(copies[1])
    old, new = (read_ranks(copy / "ranks.parquet") for copy in copies[::-1])
    assert (old.protocol.version, new.protocol.version) == (1, 2)
    tables = [
        EvaluatedRun(RunRecord(name=n, system=n, metrics={}), t)
        for n, t in (("old", old), ("new", new))
    ]
    with pytest.raises(
        DataError, match=r"of 'old', it was ranked under the former protocol.*again"
    ):
        compare_runs(tables)
    judged = [c for c in audit(copies[1]).checks if "former protocol" in c.found]
    assert [(c.artefact, c.verdict) for c in judged] == [("ranks, ranks.parquet", "unknown")]
    heard = Heard()
    result = compare(copies, progress=heard)
    assert any("itemknn is ranked again: it was ranked under the former" in n for n in heard.notes)
    (pair,) = result.pairs
    all_users = {d.metric: d for d in pair.differences if d.group == "all"}
    for metric, difference in all_users.items():
        assert difference.reference == pytest.approx(expected[0][metric])
        assert difference.run == pytest.approx(expected[1][metric])
    assert {d.group for d in pair.differences} >= {"new_target"}
    assert "repeat_target" not in {d.group for d in pair.differences}
    made_before(copies[1])
    again = reproduce(copies[1])
    assert (again.verdict, again.ranks_apart) == ("bits", 0)


def test_compare_with_nothing_masked_shows_both_groups(runs: Path) -> None:
    result = compare([runs / "sasrec", runs / "itemknn"], mask_seen=False)
    by_group = {d.group: d for d in result.pairs[0].differences if d.metric == "hr@10"}
    assert by_group["repeat_target"].users == 27
    assert by_group["repeat_target"].run > 0


def test_a_run_of_the_former_protocol_is_reported_when_it_is_resumed(
    data: Dataset, tmp_path: Path
) -> None:
    config = {**small_config("sasrec"), "epochs": 2}

    class StoppedError(Exception):
        pass

    def stop(epoch: Any, metrics: Any) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train(data, "sasrec", out=tmp_path / "run", config=config, device="cpu", watch=stop)
    made_before_training_ended(tmp_path / "run")
    heard = Heard()
    train(
        data,
        "sasrec",
        out=tmp_path / "run",
        config=config,
        device="cpu",
        resume=True,
        progress=heard,
    )
    assert any("started under a former ranking protocol" in note for note in heard.notes)
    assert load_run(tmp_path / "run").manifest.valid_protocol == 1


def made_before_training_ended(run: Path) -> None:
    manifest = read_json(run / "manifest.json", "run")
    assert manifest.pop("valid_protocol") == 2
    write_json(run / "manifest.json", manifest)
