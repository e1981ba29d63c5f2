"""Error messages name the options of the command that failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqloom.cli.main import run
from support.datasets import tiny_dataset

LOG = "who,item_id,timestamp\n" + "".join(
    f"u{u},i{(u + n) % 6},{1000 + n}\n" for u in range(8) for n in range(5)
)


def prepare_error(
    log: str, options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> str:
    """The message of a `prepare` that fails; the same on standard error and as JSON."""
    (folder / "log.csv").write_text(log)
    code = run(["prepare", str(folder / "log.csv"), "--out", str(folder / "d"), "--json", *options])
    out, err = capsys.readouterr()
    message: str = json.loads(out)["error"]["message"]
    assert code == 2
    assert message.splitlines()[0] in err
    return message


@pytest.mark.parametrize(
    ("log", "options", "named", "unnamed"),
    [
        (LOG, [], "--user-column", "user_column"),
        (LOG, ["--user-column", "who", "--min-count", "99"], "--min-count", "min_count"),
        (LOG, ["--user-column", "who", "--min-count", "-1"], "--min-count", "min_count"),
        (LOG, ["--user-column", "who", "--min-rating", "3"], "--min-rating", "min_rating"),
        (
            LOG.replace(",1", ',"1'),
            ["--user-column", "who", "--quote", '"'],
            "--quote none",
            "quote=",
        ),
        (LOG.replace(",1", ",x"), ["--user-column", "who"], "--time-format", "time_format"),
        (LOG, ["--valid-from", "2020-01-01"], "--test-from", "test_from"),
        (LOG, ["--cold-users", "0.1", "--split", "temporal"], "--split leave-one-out", "split="),
        (LOG, ["--user-column", "who", "--text-columns", "a"], "--text-columns", "text_columns"),
        (LOG, ["--engine", "local", "--ray-address", "auto"], "--ray-address", "ray_address"),
    ],
)
def test_a_message_names_the_option(
    log: str,
    options: list[str],
    named: str,
    unnamed: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = prepare_error(log, options, tmp_path, capsys)
    assert named in message
    assert unnamed not in message


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["serve", "RUN", "--port", "99999"], "--port: 99999"),
        (["serve", "RUN", "--budget-ms", "0"], "--budget-ms: 0"),
        (["serve", "RUN", "--trusted-proxy", "nowhere"], "--trusted-proxy"),
        (["embed", "D", "--batch-size", "0"], "--batch-size: 0"),
        (["embed", "D", "--engine", "local", "--workers", "0"], "--workers"),
        (["embed", "D", "--workers", "2"], "--workers needs --engine"),
        (["recommend", "R", "--all-users", "--merge"], "--out FOLDER"),
        (["token", "create", "--days", "-1"], "--days"),
    ],
)
def test_a_value_out_of_range_names_the_option(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["systems", "sasrek"], "did you mean 'sasrec'?"),
        (["embed", "{data}", "--encoder", "all-minilm-l6-v3"], "did you mean 'all-minilm-l6-v2'?"),
        (["train", "{data}", "-s", "sasrec", "--out", "{out}", "--set", "epoch=3"], "did you mean"),
    ],
)
def test_a_mistyped_name_is_suggested(
    arguments: list[str], suggestion: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_dataset(tmp_path / "data", [[1, 2, 3]])
    places = {"data": str(tmp_path / "data"), "out": str(tmp_path / "run")}
    assert run([argument.format(**places) for argument in arguments]) == 2
    assert suggestion in capsys.readouterr().err


def test_an_option_without_meaning_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_dataset(tmp_path / "data", [[1, 2, 3]])
    arguments = ["embed", str(tmp_path / "data"), "--encoder", "hash:8", "--dtype", "bfloat16"]
    assert run(arguments) == 2
    assert "option --dtype has no meaning" in capsys.readouterr().err


def test_a_warning_names_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    log.write_text(LOG.replace("who", "user_id"))
    assert run(["prepare", str(log), "--out", str(tmp_path / "d"), "--min-count", "0"]) == 0
    err = capsys.readouterr().err
    assert "(set --timestamp-unit)" in err
    assert "timestamp_unit" not in err


@pytest.mark.parametrize(
    ("arguments", "resumes"),
    [(["train", "D", "--system", "sasrec", "--out", "R"], True), (["systems"], False)],
)
def test_an_interrupted_command_says_whether_it_can_be_resumed(
    arguments: list[str],
    resumes: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seqloom.cli.session.keep_freed_memory", interrupt)
    assert run(arguments) == 130
    assert ("--resume" in capsys.readouterr().err) is resumes
