"""Figures as matplotlib objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import seqloom
from seqloom.core.errors import ConfigError
from support.datasets import prepared_dataset


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plots")
    dataset = prepared_dataset(folder / "data")
    config = {"epochs": 2, "encoder.hidden_size": 8, "batch_size": 32}
    seqloom.train(dataset, "sasrec", out=folder / "sasrec", config=config)
    seqloom.train(dataset, "popularity", out=folder / "popularity")
    runs = [seqloom.load_run(folder / name) for name in ("popularity", "sasrec")]
    return {
        "runs": runs,
        "evaluations": [seqloom.evaluate(run) for run in runs],
        "comparison": seqloom.compare(runs),
    }


def test_every_figure_is_drawn(results: dict[str, Any]) -> None:
    bars = seqloom.plot_metrics(results["evaluations"])
    assert isinstance(bars, Figure)
    assert [text.get_text() for text in bars.axes[0].get_legend().get_texts()] == [
        "popularity",
        "sasrec",
    ]
    one = seqloom.plot_metrics(results["evaluations"][1], metric="hr@10", names=["ours"])
    patches: Any = one.axes[0].patches
    heights = [bar.get_height() for bar in patches]
    assert heights[0] == results["evaluations"][1].metrics["hr@10"]
    curves = seqloom.plot_training(results["runs"][1])
    assert len(list(curves.axes[0].lines[0].get_xdata())) == 2  # type: ignore[arg-type]
    forest = seqloom.plot_differences(results["comparison"])
    assert len(forest.axes[0].get_yticks()) > 1
    figure: Any = bars
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_missing_metric_is_an_error(results: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no metric 'ndcg@7'; it has hr@5"):
        seqloom.plot_metrics(results["evaluations"], metric="ndcg@7")
    with pytest.raises(ConfigError, match="no metric 'mrr'; it has ndcg@10, hr@10"):
        seqloom.plot_differences(results["comparison"], metric="mrr")
    with pytest.raises(ConfigError, match="names has 1 entries for 2"):
        seqloom.plot_metrics(results["evaluations"], names=["a"])


def test_results_describe_themselves(results: dict[str, Any]) -> None:
    run, evaluation, comparison = (
        results["runs"][1],
        results["evaluations"][1],
        results["comparison"],
    )
    assert repr(run).startswith("<Run sasrec of sasrec: data set data, items ")
    assert run.to_polars().columns[:3] == ["phase", "epoch", "loss"]
    frame = evaluation.to_polars()
    assert frame["group"].to_list()[:3] == ["all", "tail_item", "head_item"]
    assert frame["ndcg@10"][0] == evaluation.metrics["ndcg@10"]
    assert comparison.to_pandas()["metric"].unique().tolist() == ["ndcg@10", "hr@10"]
    for each in (run, evaluation, comparison):
        assert each._repr_html_().startswith("<div><b>")


def test_one_history_is_a_list_of_ids(results: dict[str, Any]) -> None:
    run = results["runs"][1]
    ids = run.item_ids[:3]
    lists = run.recommend(ids, k=4)
    assert lists == run.recommend([ids], k=4)
    assert lists == seqloom.recommend(run, histories=ids, k=4)
    assert lists.to_polars()["item_id"].to_list() == [item.item_id for item in lists[0].items]
    assert repr(lists).splitlines()[0] == "<Recommendations: 1 list>"
    assert str(Path(run.path).name) == "sasrec"
