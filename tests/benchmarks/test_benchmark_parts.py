"""The benchmark page and its results, also where a yardstick is missing."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.data import sequence_file
from benchmarks.report import to_markdown
from benchmarks.result import Measurement, Part, Result
from benchmarks.yardsticks import YARDSTICKS, common, environment
from benchmarks.yardsticks.environment import Yardstick, YardstickError

from benchmarks import __main__ as command
from benchmarks import libraries, until
from seqloom.evaluation.metrics import rank_metrics
from support.datasets import tiny_dataset

OURS = Measurement("ours", "s", [2.0, 4.0])


def test_the_page_marks_quick_parts_and_explains_missing_ones() -> None:
    results = [
        Result("a", OURS, Measurement("theirs", "s", [6.0]), notes={"seed": "42"}),
        Result("b", OURS, missing="pip said\nno | never"),
    ]
    raw = json.loads(json.dumps(Part(results, quick=True).to_dict()))
    page = to_markdown({"cores": "2"}, {"training": Part.from_dict(raw)}, {"decoding": "needs RUN"})
    assert "## Training (quick)" in page
    assert "`python -m benchmarks training`" in page
    assert "| a | 3 ± 2 s | 6 s | 2.00 |" in page
    assert "- a: ours / theirs\n" in page
    assert "| b | 3 ± 2 s | - | - |" in page
    assert "- b: ours / none (pip said no / never)\n" in page
    assert "- seed: 42\n" in page
    assert "## Not measured\n\n- decoding: needs RUN\n" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0000020412, "2.04e-06"), (0.0584, "0.0584"), (999.6, "1,000"), (2330.4, "2,330")],
)
def test_values_have_three_digits_and_no_exponent_from_a_thousand_on(
    value: float, text: str
) -> None:
    page = to_markdown({}, {"training": Part([Result("a", Measurement("x", "s", [value]))])})
    assert f"| a | {text} s | - | - |" in page


@pytest.mark.parametrize("part", command.PARTS)
def test_every_part_has_a_purpose_for_its_section(part: str) -> None:
    page = to_markdown({}, {part: Part([])})
    assert re.search(rf"\n[A-Z][^\n]+\. `python -m benchmarks {part}`\n", page)


def test_a_yardstick_that_cannot_be_installed_reports_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "TORCH", str(tmp_path / "no-such.whl"))
    with pytest.raises(YardstickError, match=r"pip install .* gave 1: .*no-such"):
        Yardstick("replay", "RePlay", (), 128).install(tmp_path)
    assert not (tmp_path / "replay" / "installed.txt").exists()


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def called(command: list[str]) -> None:
        calls.append(command)
        (tmp_path / "replay").mkdir(exist_ok=True)

    monkeypatch.setattr(environment, "_call", called)
    first = Yardstick("replay", "RePlay", ("a==1",), 128)
    first.install(tmp_path)
    first.install(tmp_path)
    assert len(calls) == 3
    assert calls[1][-1] == environment.TORCH  # first and alone
    Yardstick("replay", "RePlay", ("a==2",), 128).install(tmp_path)
    assert len(calls) == 6


def test_a_part_of_an_epoch_is_scaled_and_marked_as_such() -> None:
    reported = {"epoch_seconds": [], "step_seconds": [0.5, 1.0], "steps_per_epoch": 175}
    seconds, name = libraries._epoch(YARDSTICKS[0], reported)
    assert seconds == [87.5, 175.0]
    assert name == "quick: 2 of 175 steps scaled to all, batch 128"
    seconds, name = libraries._epoch(YARDSTICKS[0], {**reported, "epoch_seconds": [9.0]})
    assert (seconds, name) == ([9.0], "1 epochs, batch 128")


def test_time_until_an_accuracy() -> None:
    reached = until._until([2.0, 3.0, 4.0], [0.01, 0.061, 0.07])
    assert (reached.values, reached.name) == ([5.0], "2 epochs, 0.0610")
    missed = until._until([2.0, 3.0], [0.01, 0.05])
    assert (missed.values, missed.name) == ([5.0], "not reached: 0.0500 in 2 epochs")


def test_the_yardsticks_are_judged_as_we_are() -> None:
    lists = torch.tensor([[7, *range(20, 29)], [*range(20, 29), 7], list(range(20, 30))])
    ranks = torch.tensor([1, 10, 11])
    expected = rank_metrics(ranks, ("ndcg@10",))["ndcg@10"]
    assert common.ndcg(lists, torch.tensor([7, 7, 7])) == pytest.approx(expected)


def test_the_yardsticks_read_the_same_histories(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data", [[1, 2, 3, 4], [4, 3, 2]])
    rows = common.read(sequence_file(dataset, tmp_path))
    assert rows == [[0, 1, 2, 3], [3, 2, 1]]


def test_every_yardstick_has_its_script() -> None:
    folder = Path(environment.__file__).parent
    assert {path.stem for path in folder.glob("run_*.py")} == {
        f"run_{each.name}" for each in YARDSTICKS
    }
    assert set(libraries.QUICK_STEPS) == {each.name for each in YARDSTICKS}


def test_a_part_that_fails_is_named_and_the_others_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.md"
    good = (
        "import json, pathlib; pathlib.Path({file!r}).write_text("
        "json.dumps({{'results': [], 'quick': False}}))"
    )
    codes = {
        "training": "raise SystemExit(3)",
        "e4srec": good.format(file=str(tmp_path / "e4srec.json")),
    }
    monkeypatch.setattr(command, "_command", lambda _, part: [sys.executable, "-c", codes[part]])
    arguments = ["benchmarks", "training", "e4srec", "--work", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    page = out.read_text()
    assert "- training: failed with exit status 3" in page
    assert "## E4SRec" in page


def test_no_part_named_means_all_of_them_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[list[str]] = []

    def run(options: argparse.Namespace) -> int:
        given.append(options.parts)
        return 0

    monkeypatch.setattr(command, "_run_all", run)
    for arguments in ([], ["until", "plan"], ["no-such"]):
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--work", str(tmp_path), *arguments])
        with pytest.raises(SystemExit):
            command.main()
    assert given == [list(command.PARTS), ["until", "plan"]]
    assert "no part named no-such; there are training, plan" in capsys.readouterr().err
