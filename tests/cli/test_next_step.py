"""The command that is suggested next can be pasted."""

from pathlib import Path

import pytest

from seqloom.cli.next_step import after_embed, after_evaluate, after_prepare, command


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
    run = _evaluated(tmp_path / "runs" / "a")
    assert after_evaluate(run) == f"seqloom serve {run}"


def test_a_run_beside_others_is_compared_with_the_first_of_them(tmp_path: Path) -> None:
    runs = [_evaluated(tmp_path / "runs" / name) for name in "edcba"]
    (tmp_path / "runs" / "0-not-evaluated").mkdir()
    others = " ".join(f"{tmp_path}/runs/{name}" for name in "abd")
    expected = f"seqloom compare {others} {runs[2]} --report report.html"
    assert after_evaluate(runs[2]) == expected


def _evaluated(run: Path) -> Path:
    run.mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
    return run
