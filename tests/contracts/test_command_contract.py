"""What holds for every command: help, --json, the forms of errors, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seqloom.cli.commands import SUMMARIES
from seqloom.cli.main import run
from seqloom.core.errors import DataError
from support.documented_commands import COMMANDS_BY_NAME

OPTIONS = {
    "add-items": """
        --out --text --dataset --overwrite --json --quiet -q
    """,
    "audit": """
        --encode --no-encode --thorough --dataset --json --quiet -q
    """,
    "compare": """
        --report --on --mask-seen --no-mask-seen --all-pairs --item-map --audit --json --quiet -q
    """,
    "demo": """
        --out --json --quiet -q
    """,
    "embed": """
        --encoder --pooling --batch-size --max-tokens --dtype --device --requests-per-minute
        --item-template --user-template --users --user-max-items --user-max-words --name --default
        --shard --merge --engine --shards --workers --ray-address --task-cpus --task-gpus
        --overwrite --json --quiet -q
    """,
    "evaluate": """
        --protocol --on --mask-seen --no-mask-seen --negatives --tail-item-below --tail-user-below
        --exact --sample --rerank --rerank-set --zero-shot --dataset --device --json --quiet -q
    """,
    "export": """
        --out --format --overwrite --json --quiet -q
    """,
    "ids": """
        --run --config --set --out --show --device --overwrite --json --quiet -q
    """,
    "import-llmesr": """
        --out --items --name --overwrite --json --quiet -q
    """,
    "mcp": """
        --store --device --json --quiet -q
    """,
    "plan": """
        --system -s --config --set --memory --out --device --json --quiet -q
    """,
    "prepare": """
        --out --items --format --user-column --item-column --timestamp-column --rating-column
        --timestamp-unit --time-format --items-id-column --text-columns --separator --quote
        --escape --header --no-header --encoding --min-rating --duplicates --missing --min-count
        --min-user-count --min-item-count --split --valid-fraction --test-fraction --valid-from
        --test-from --cold-items --cold-users --cold-seed --engine --parts --workers --ray-address
        --task-cpus --overwrite --json --quiet -q
    """,
    "recommend": """
        --history --users --all-users --k -k --mask-seen --no-mask-seen --approximate --about
        --about-weight --dataset
        --device --out --shard --merge --engine --shards --workers --ray-address --task-cpus
        --task-gpus --overwrite --json --quiet -q
    """,
    "reproduce": """
        --out --dataset --device --tolerance --overwrite --json --quiet -q
    """,
    "serve": """
        --host --port --store --check-store --auth --no-auth --cascade --rerank --budget-ms
        --approximate --exact --max-connections --trusted-proxy --config --set --device --json --quiet -q
    """,
    "sweep": """
        --plan --out --set --only --device --json --quiet -q
    """,
    "systems": """
        --json --quiet -q
    """,
    "token": """
        --name --scope --days --rate --id --store --json --quiet -q
    """,
    "train": """
        --out --system -s --config --set --resume --checkpoint-every --foundation --fsdp --shard --device
        --overwrite --json --quiet -q
    """,
    "tune": """
        --plan --out --trials --device --json --quiet -q
    """,
    "tune-encoder": """
        --out --encoder --kind --config --set --resume --checkpoint-every --device --overwrite --json
        --quiet -q
    """,
    "tune-llm": """
        --out --llm --config --set --skip-bad --merge --resume --checkpoint-every --device
        --overwrite --json --quiet -q
    """,
}
"""The options of each command. An option that scripts use does not disappear."""


def options_of(command: str) -> set[str]:
    return {
        option
        for p in COMMANDS_BY_NAME[command].params
        if p.param_type_name == "option"
        for option in [*p.opts, *p.secondary_opts]
    }


PutStage = Callable[[str, Callable[..., Any]], None]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> PutStage:
    """Replace the pipeline `name` by a function."""

    def put(name: str, function: Callable[..., Any]) -> None:
        module = ModuleType(f"seqloom.pipelines.{name}.{name}")
        setattr(module, name, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


@pytest.mark.parametrize("command", sorted(OPTIONS))
def test_no_option_disappears(command: str) -> None:
    assert set(OPTIONS[command].split()) <= options_of(command)


@pytest.mark.parametrize("command", sorted(SUMMARIES))
def test_the_summary_is_the_first_line_of_the_docstring(command: str) -> None:
    assert COMMANDS_BY_NAME[command].help.splitlines()[0] == SUMMARIES[command]


@pytest.mark.parametrize("command", sorted(COMMANDS_BY_NAME))
def test_every_command_has_json_quiet_and_help(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {"--json", "--quiet"} <= options_of(command)
    assert run([command, "--help"]) == 0
    assert f"seqloom {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(COMMANDS_BY_NAME))
def test_every_option_has_a_help_text(command: str) -> None:
    assert COMMANDS_BY_NAME[command].help
    for parameter in COMMANDS_BY_NAME[command].params:
        assert parameter.name == "help" or parameter.help, parameter.name


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "prepare" in capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(COMMANDS_BY_NAME))
def test_an_unknown_option_is_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--no-such-option"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "--no-such-option" in err
    assert "Traceback" not in err


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trian"]) == 2
    assert "trian" in capsys.readouterr().err


def test_a_usage_error_with_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--json", "--no-such-option"]) == 2
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["error"]["type"] == "UsageError"
    assert "--no-such-option" in document["error"]["message"]
    assert "--no-such-option" in err


def test_json_writes_one_document_and_nothing_else(
    stage: PutStage, capsys: pytest.CaptureFixture[str]
) -> None:
    def recommend(run: Path, *, progress: Any, **options: Any) -> list[dict[str, Any]]:
        print("output of a library")
        progress.note("a note")
        with progress.task("work", total=2) as task:
            task.advance(2)
        return [{"user": None, "items": [{"item_id": "7", "score": float("nan")}]}]

    stage("recommend", recommend)
    assert run(["recommend", "RUN", "--history", "1,2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == [{"user": None, "items": [{"item_id": "7", "score": None}]}]
    assert "output of a library" in err
    assert "a note" in err


def test_quiet_keeps_warnings_and_the_result(
    stage: PutStage, capsys: pytest.CaptureFixture[str]
) -> None:
    def recommend(run: Path, *, progress: Any, **options: Any) -> list[dict[str, Any]]:
        progress.note("a note")
        progress.warn("a warning")
        return [{"user": "u1", "items": [{"item_id": "seven", "score": 0.5}], "unknown": []}]

    stage("recommend", recommend)
    assert run(["recommend", "RUN", "--history", "1,2", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "seven" in out
    assert "a note" not in err
    assert "a warning" in err


@pytest.mark.parametrize("as_json", [True, False])
def test_an_expected_error(
    as_json: bool, stage: PutStage, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(run: Path, **options: Any) -> None:
        raise DataError("first line\nsecond line")

    stage("evaluate", evaluate)
    assert run(["evaluate", "RUN", *(["--json"] if as_json else [])]) == 2
    out, err = capsys.readouterr()
    assert err == "error: first line\n  second line\n"
    expected = {"error": {"type": "DataError", "message": "first line\nsecond line"}}
    assert (json.loads(out) if as_json else out) == (expected if as_json else "")


def test_debug_shows_the_traceback(
    stage: PutStage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(run: Path, **options: Any) -> None:
        raise DataError("bad")

    stage("evaluate", evaluate)
    monkeypatch.setenv("SEQLOOM_DEBUG", "1")
    assert run(["evaluate", "RUN"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_shows_its_traceback(
    stage: PutStage, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(run: Path, **options: Any) -> None:
        raise KeyError("x")

    stage("evaluate", evaluate)
    assert run(["evaluate", "RUN", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["type"] == "KeyError"
    assert "Traceback" in err


def test_a_system_error_has_no_traceback(
    stage: PutStage, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(run: Path, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere")

    stage("evaluate", evaluate)
    assert run(["evaluate", "RUN"]) == 1
    err = capsys.readouterr().err
    assert "/somewhere" in err
    assert "Traceback" not in err


def test_an_interrupt_is_130(stage: PutStage, capsys: pytest.CaptureFixture[str]) -> None:
    def evaluate(run: Path, **options: Any) -> None:
        raise KeyboardInterrupt

    stage("evaluate", evaluate)
    assert run(["evaluate", "RUN", "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["type"] == "Interrupted"
    assert err == "error: interrupted\n"


def test_missing_inputs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none")
    assert run(["train", missing, "--system", "sasrec", "--out", str(tmp_path / "run")]) == 2
    assert missing in capsys.readouterr().err
