"""Each command passes its options to the pipeline and draws the result."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import seqloom
from seqloom.cli.config_docs import config_keys
from seqloom.cli.main import run
from seqloom.distributed.processes import ALONE
from seqloom.jobs import JobOptions
from seqloom.pipelines.demo import DemoRun, DemoSummary
from seqloom.pipelines.experiments.tune import SearchSummary
from seqloom.pipelines.train.summary import TrainSummary
from support.datasets import tiny_dataset
from support.documented_commands import COMMANDS_BY_NAME


class Recorder:
    """A pipeline that records its arguments and returns a fixed result."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *arguments: Any, progress: Any, **options: Any) -> Any:
        self.arguments, self.options = arguments, options
        return self.result


MODULES = {
    "train": "train.train",
    "evaluate": "evaluate.evaluate",
    "compare": "compare.compare",
    "recommend": "recommend.recommend",
    "sweep": "experiments.sweep",
    "tune": "experiments.tune",
    "demo": "demo",
}
"""Modules of the pipelines that are replaced."""


PutStage = Callable[[str, Any], Recorder]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> PutStage:
    """Replace the pipeline `name` by a recorder that returns `result`."""

    def put(name: str, result: Any) -> Recorder:
        recorder = Recorder(result)
        module = ModuleType(f"seqloom.pipelines.{MODULES[name]}")
        setattr(module, name, recorder)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return recorder

    return put


def test_train_merges_the_file_and_the_overrides(
    stage: PutStage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = TrainSummary(
        run="r",
        system="sasrec",
        epochs=2,
        seconds_per_epoch=[61.0, 63.0],
        targets_per_epoch=9,
        seconds_total=130.0,
        peak_rss_mb=1234.4,
        parameters=5_000,
        trained_parameters=4_000,
        best_phase="train",
        best_epoch=1,
        valid={"ndcg@10": 0.25},
    )
    recorder = stage("train", summary)
    tiny_dataset(tmp_path / "data", [[1, 2, 3]])
    config = tmp_path / "c.yaml"
    config.write_text("epochs: 3\nencoder:\n  kind: gru4rec\n  dropout: 0.1\n")
    options = ["--config", str(config), "--set", "epochs=5", "--set", "encoder.dropout=0.2"]
    where = [str(tmp_path / "data"), "--system", "sasrec", "--out", "r"]
    code = run(["train", *where, "--resume", *options])
    assert code == 0
    dataset, system = recorder.arguments
    assert (dataset.num_items, system) == (3, "sasrec")
    assert recorder.options == {
        "processes": ALONE,
        "fsdp": False,
        "trackers": (),
        "config": {"epochs": 5, "encoder": {"kind": "gru4rec", "dropout": 0.2}},
        "out": Path("r"),
        "resume": True,
        "overwrite": False,
        "device": "auto",
        "checkpoint_every_s": 60.0,
    }
    out = capsys.readouterr().out
    for shown in ("validation NDCG@10", "0.2500", "2\u202fmin", "2, 62\u202fs each", "1,234 MiB"):
        assert shown in out
    assert out.endswith("Next: seqloom evaluate r\n")


def test_train_names_a_bad_override(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "D", "--system", "sasrec", "--out", "r", "--set", "epochs"]) == 2
    assert "key=value" in capsys.readouterr().err


def test_evaluate(stage: PutStage, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = stage(
        "evaluate",
        {
            "run": "R",
            "system": "sasrec",
            "protocol": "sampled",
            "statement": "In plain words.",
            "thresholds": {"item": 4, "user": 9},
            "users": 1234,
            "metrics": {
                "hr@10": 0.5,
                "ndcg@10": 0.375,
                "coverage@10": 0.125,
                "popularity@10": 7.25,
            },
            "groups": {
                "tail_item": {"users": 7, "metrics": {"hr@10": 0.25}},
                "head_item": {"users": 0, "metrics": None},
            },
            "cold": None,
            "seconds": 1.5,
        },
    )
    options = ["--protocol", "sampled", "--negatives", "50", "--no-mask-seen"]
    assert (
        run(
            ["evaluate", "R", *options, "--on", "valid", "--tail-item-below", "4", "--dataset", "D"]
        )
        == 0
    )
    assert recorder.arguments == (Path("R"),)
    assert recorder.options == {
        "processes": ALONE,
        "protocol": "sampled",
        "on": "valid",
        "mask_seen": False,
        "negatives": 50,
        "tail_item_below": 4,
        "tail_user_below": None,
        "dataset": Path("D"),
        "device": "auto",
    }
    out = capsys.readouterr().out
    assert out.startswith("R (sasrec): NDCG@10 0.3750, HR@10 0.5000\n")
    for shown in ("In plain words.", "1,234", "rare items", "0.2500", "12.5", "7.2 training"):
        assert shown in out


def test_evaluate_names_the_allowed_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "R", "--protocol", "half"]) == 2
    assert "'full', 'sampled'" in capsys.readouterr().err


def test_compare(stage: PutStage, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = stage("compare", COMPARISON)
    options = ["--report", "x.html", "--all-pairs", "--at", "10,50", "--price-per-hour", "0.5"]
    assert run(["compare", "a", "ours=runs/b", *options]) == 0
    assert recorder.arguments == ({"a": "a", "ours": "runs/b"},)
    assert recorder.options == {
        "audit_runs": False,
        "report": Path("x.html"),
        "on": "test",
        "at": (10, 50),
        "mask_seen": None,
        "all_pairs": True,
        "item_map": 1000,
        "price_per_hour": 0.5,
    }
    out = capsys.readouterr().out.replace("\u202f", " ")
    lines = out.splitlines()
    assert lines[0] == "No gain is shown."
    assert [" ".join(lines[n].split()) for n in (2, 4, 5)] == [
        "run NDCG@10 vs reference 95 % interval p training request",
        "a 0.1000 reference 84 s 1.7 ms",
        "ours 0.0900 −10.0 % −0.020 to +0.001 .63 12 min –",
    ]
    for words in (
        "b is below a.",
        "ours against a by group of users: not shown within any group.",
        "Over seeds too.",
        "One data set.",
        "of 20",
    ):
        assert words in out.replace("for 20", "of 20")
    assert "seen items masked and kept: a 0.1000 and 0.0800." in out
    assert lines[-1] == "Next: seqloom serve ours=runs/b a"


def test_compare_fits_80_columns_and_names_wrong_options(
    stage: PutStage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage("compare", COMPARISON)
    monkeypatch.setattr("seqloom.cli.show.WIDTH_WITHOUT_TERMINAL", 80)
    assert run(["compare", "a", "ours=runs/b"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert run(["compare", "a", "ours=runs/b", "--at", "1,ten"]) == 2
    assert "--at: 'ten' is no cut-off" in capsys.readouterr().err
    assert run(["compare", "a", "x/a"]) == 2
    assert "two runs are called 'a'" in capsys.readouterr().err


COMPARISON: dict[str, Any] = {
    "confidence": 0.95,
    "comparisons": 20,
    "reference": "a",
    "reference_chosen": "The reference is a.",
    "verdict": {
        "headline": "No gain is shown.",
        "run": "ours",
        "evidence": ["b is below a."],
        "cautions": ["One data set."],
    },
    "runs": [
        {"name": "a", "system": "sasrec", "train_seconds": 84.0, "latency_ms": 1.7},
        {"name": "ours", "system": "llmesr", "train_seconds": 720.0, "latency_ms": None},
    ],
    "scores": [
        {"run": "ours", "metric": "ndcg@10", "group": "all", "value": 0.09},
        {"run": "a", "metric": "ndcg@10", "group": "all", "value": 0.1},
    ],
    "pairs": [
        {
            "run": "ours",
            "reference": "a",
            "sentence": "No gain; not shown within any group.",
            "differences": [
                {
                    "metric": "ndcg@10",
                    "group": "all",
                    "relative": -0.1,
                    "low": -0.02,
                    "high": 0.001,
                    "p_holm": 0.634,
                }
            ],
        }
    ],
    "over_seeds": [{"metric": "ndcg@10", "sentence": "Over seeds too."}],
    "protocols": [
        {"run": "a", "metric": "ndcg@10", "group": "all", "masked": 0.1, "unmasked": 0.08}
    ],
}


ONE = [
    {
        "user": "[b]u1",
        "items": [{"item_id": "[red]i9", "score": 1.25}],
        "unknown": ["zz"],
    }
]
RECOMMEND_DEFAULTS = {"all_users": False, "mask_seen": None, "dataset": None, "device": "auto"}


def test_recommend_to_histories(stage: PutStage, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = stage("recommend", ONE)
    assert run(["recommend", "R", "--history", "a, b,c", "--history", "d", "--k", "3"]) == 0
    assert recorder.arguments == (Path("R"),)
    assert recorder.options == {
        "approximate": False,
        "histories": [["a", "b", "c"], ["d"]],
        "users": None,
        "k": 3,
        **RECOMMEND_DEFAULTS,
    }
    out = capsys.readouterr().out
    for shown in ("[red]i9", "[b]u1", "zz"):
        assert shown in out, "ids are not markup"


def test_recommend_to_ids_with_commas(stage: PutStage) -> None:
    recorder = stage("recommend", ONE)
    assert run(["recommend", "R", "--history", '"a,b",c', "--k", "3"]) == 0
    assert recorder.options["histories"] == [["a,b", "c"]]


def test_recommend_to_users(
    stage: PutStage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = stage("recommend", ONE)
    users = tmp_path / "users.txt"
    users.write_text("u 1\n\nu2\n")
    assert run(["recommend", "R", "--users", str(users)]) == 0
    assert recorder.options["users"] == ["u 1", "u2"]


@pytest.mark.parametrize("content", [None, b"\n", b"\xff\xfe"])
def test_recommend_refuses_a_bad_user_file(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = tmp_path / "users.txt"
    if content is not None:
        users.write_bytes(content)
    assert run(["recommend", "R", "--users", str(users)]) == 2
    assert str(users) in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--history", "a", "--users", "f"]])
def test_recommend_needs_exactly_one_source_of_histories(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["recommend", "R", *options]) == 2
    assert "--users" in capsys.readouterr().err


def test_sweep_reads_its_plan(
    stage: PutStage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row: dict[str, Any] = {
        "variant": "a",
        "system": "sasrec",
        "point": {"epochs": 3},
        "protocol": "full",
    }
    row |= {"group": "all", "users": 9, "metric": "hr@10", "seeds": [1, 2]}
    row |= {"mean": 0.125, "std": None, "best": 0.25}
    document = {"runs": 2, "failed": [{"run": "x", "error": "nan"}], "report": "o/report.html"}
    recorder = stage("sweep", document | {"table": [row, row | {"group": "tail_item"}]})
    (tmp_path / "p.yaml").write_text("system: sasrec\ngrid: {epochs: [3]}\n")
    assert run(["sweep", "D", "--plan", str(tmp_path / "p.yaml"), "--out", "O"]) == 0
    dataset, plan = recorder.arguments
    assert (dataset, plan.grid) == (Path("D"), {"epochs": [3]})
    assert recorder.options == {"out": Path("O"), "device": "auto"}
    out = capsys.readouterr().out
    for shown in ("0.1250", "epochs", "1 2", "failed: x: nan", "o/report.html"):
        assert shown in out


def test_sweep_names_an_unknown_key_of_its_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.yaml").write_text("system: sasrec\ngird: {epochs: [3]}\n")
    assert run(["sweep", "D", "--plan", str(tmp_path / "p.yaml"), "--out", "O"]) == 2
    assert "did you mean 'grid'" in capsys.readouterr().err


def test_tune_reads_its_plan(
    stage: PutStage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = SearchSummary(
        out="O",
        trials=7,
        complete=7,
        pruned=0,
        failed=0,
        metric="ndcg@10",
        best_trial=3,
        best_value=0.125,
        best={},
        config="O/best.yaml",
    )
    recorder = stage("tune", summary)
    (tmp_path / "p.yaml").write_text("system: sasrec\nspace: {epochs: {low: 1, high: 3}}\n")
    options = ["--plan", str(tmp_path / "p.yaml"), "--out", "O", "--trials", "7"]
    assert run(["tune", "D", *options]) == 0
    dataset, plan = recorder.arguments
    assert (dataset, plan.trials, plan.space["epochs"].high) == (Path("D"), 7, 3)
    assert recorder.options == {"out": Path("O"), "device": "auto"}
    follows = "Next: seqloom train D --system sasrec --config O/best.yaml --out runs/sasrec\n"
    assert capsys.readouterr().out.endswith(follows)


def test_demo(stage: PutStage, capsys: pytest.CaptureFixture[str]) -> None:
    ranking = [
        DemoRun(name=name, run=f"d/{name}", ndcg=ndcg, ndcg_tail_items=None, seconds=75.0)
        for name, ndcg in (("llmesr", 0.1017), ("sasrec", 0.0927), ("popularity", 0.0432))
    ]
    summary = DemoSummary(
        folder="d",
        report="d/report.html",
        seconds=1.0,
        ranking=ranking,
        statistics={},
        results=[],
        findings=["llmesr is ahead."],
        recommendations=[{"user": "7", "saw": "Alien", "recommended": "Aliens; Heat"}],
    )
    recorder = stage("demo", summary)
    assert run(["demo"]) == 0
    assert recorder.arguments == (Path("work/demo"),)
    out, err = capsys.readouterr()
    for shown in ("llmesr is ahead.", "0.1017", "75", "Aliens; Heat", "d/report.html"):
        assert shown in out
    assert out.endswith("Next: seqloom serve d/llmesr d/sasrec\n")
    assert "About 3 minutes" in err, "it says beforehand how long it takes"


LOG = "user_id,item_id,timestamp\n" + "".join(
    f"u{u},i{(u + n) % 6},{1000 + n}\n" for u in range(8) for n in range(5)
)
ITEMS = "item_id,title,brand\n" + "".join(f"i{n},title {n},brand {n % 2}\n" for n in range(6))


@pytest.fixture
def csv_files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "items.csv").write_text(ITEMS)
    return str(tmp_path / "log.csv"), str(tmp_path / "items.csv")


def test_prepare_and_embed_for_real(
    csv_files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, items = csv_files
    data = str(tmp_path / "data")
    more = ["--min-count", "2", "--text-columns", "title, brand", "--header", "--json"]
    assert run(["prepare", log, "--items", items, "--out", data, *more]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dataset"] == data
    assert document["statistics"]["users"] == 8
    assert document["statistics"]["items"] == 6
    assert seqloom.load_dataset(data).manifest.options["min_count"] == 2
    assert seqloom.load_dataset(data).items.column_names == ["item_id", "title", "brand"]

    assert run(["embed", data, "--encoder", "hash:16", "--users", "mean", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["items"], document["users"], document["width"]) == (6, 8, 16)


def test_prepare_shows_the_statistics(
    csv_files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = csv_files
    assert run(["prepare", log, "--out", str(tmp_path / "data")]) == 0
    out, err = capsys.readouterr()
    assert "test targets" in out
    assert "no items table" in err


def test_prepare_lists_the_allowed_values(
    csv_files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = csv_files
    assert run(["prepare", log, "--out", str(tmp_path / "data"), "--split", "half"]) == 2
    err = capsys.readouterr().err
    assert "--split" in err
    assert "'half' is not one of" in err
    assert "temporal" in err


@pytest.mark.parametrize(
    ("command", "model", "apart"),
    [
        ("prepare", "seqloom.pipelines.prepare.options:PrepareOptions", {"log", "out", "items"}),
        ("embed", "seqloom.pipelines.embed.options:EmbedOptions", {"dataset"}),
    ],
)
def test_every_option_of_the_stage_is_on_the_command_line(
    command: str, model: str, apart: set[str]
) -> None:
    module, _, name = model.partition(":")
    keys = {row["key"]: row for row in config_keys(getattr(import_module(module), name))}
    shared = {"overwrite", "json_output", "quiet", "help", "shard", "shards", "merge", "parts"}
    parameters = {p.name: p for p in COMMANDS_BY_NAME[command].params}
    assert set(keys) == set(parameters) - apart - shared - set(JobOptions.model_fields)
