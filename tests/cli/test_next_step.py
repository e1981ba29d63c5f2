"""The command that is suggested next can be pasted."""

from pathlib import Path

import pytest

from seqloom.cli.next_step import after_embed, after_evaluate, after_prepare, command
from seqloom.pipelines.train.train import train
from support.datasets import tiny_dataset


def test_arguments_are_quoted_for_a_shell() -> None:
    assert command("serve", Path("my runs/a")) == "seqloom serve 'my runs/a'"


@pytest.mark.parametrize(
    ("has_text", "expected"),
    [
        (True, "seqloom embed data/shop"),
        (False, "seqloom train data/shop --system sasrec --out runs/sasrec"),
    ],
)
def test_prepare_is_followed_by_embed_where_items_have_text(has_text: bool, expected: str) -> None:
    assert after_prepare("data/shop", has_text=has_text) == expected


def test_embed_is_followed_by_a_training() -> None:
    assert after_embed("d") == "seqloom train d --system llmesr --out runs/llmesr"


def test_a_run_alone_is_served(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "runs" / "a")
    assert after_evaluate(run) == f"seqloom serve {run}"


def test_a_run_beside_others_is_compared_with_the_first_of_them(tmp_path: Path) -> None:
    runs = [evaluated(tmp_path / "runs" / name) for name in "edcba"]
    (tmp_path / "runs" / "0-not-evaluated").mkdir()
    others = " ".join(f"{tmp_path}/runs/{name}" for name in "abd")
    expected = f"seqloom compare {others} {runs[2]} --report report.html"
    assert after_evaluate(runs[2]) == expected


def test_a_run_of_other_data_is_no_run_to_compare_with(tmp_path: Path) -> None:
    evaluated(tmp_path / "runs" / "a")
    other = evaluated(tmp_path / "runs" / "b", [[1, 2, 3, 4], [2, 3, 4, 1]])
    damaged = tmp_path / "runs" / "c"
    damaged.mkdir()
    (damaged / "metrics.json").write_text("{}")
    assert after_evaluate(other) == f"seqloom serve {other}"


def evaluated(run: Path, histories: list[list[int]] | None = None) -> Path:
    """A run of popularity with a file of metrics."""
    data = tiny_dataset(run.parent / f"data-of-{run.name}", histories or [[1, 2, 3], [2, 3, 1]])
    train(data, "popularity", out=run)
    (run / "metrics.json").write_text("{}")
    return run
