"""Every command of the README runs on the sample, in its order."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seqloom.cli.main import run
from support.documented_commands import ROOT, code_blocks, commands
from support.language_models import save_tiny_sentence_model

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line)[1:] for line in commands(README)]
_MAIN = "from seqloom.cli.main import main; main()"
_SMALL = {
    "sasrec": ["epochs=1", "encoder.hidden_size=8"],
    "llmesr": [
        "epochs=1",
        "encoder.hidden_size=8",
        "semantic.tower.epochs=1",
        "semantic.tower.encoder.hidden_size=8",
    ],
}
"""What makes the trainings of the README take a moment."""


def shortened(arguments: list[str], encoder: Path) -> list[str]:
    """Returns a command with a tiny encoder and short trainings."""
    if arguments[0] == "embed":
        return [*arguments, "--encoder", str(encoder)]
    if arguments[0] == "train":
        system = arguments[arguments.index("--system") + 1]
        return [*arguments, *(part for key in _SMALL[system] for part in ("--set", key))]
    return arguments


def in_order() -> list[list[str]]:
    """Returns the commands that end by themselves, without the demo, which has a sample of its own."""
    return [arguments for arguments in COMMANDS if arguments[0] not in ("serve", "demo")]


def test_the_commands_run_on_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    encoder = save_tiny_sentence_model(tmp_path / "encoder")
    assert {arguments[0] for arguments in in_order()} >= {"prepare", "embed", "train", "compare"}
    for arguments in in_order():
        assert run(shortened(arguments, encoder)) == 0, arguments
        out, err = capsys.readouterr()
        assert out.strip(), arguments
        if arguments[0] == "prepare":
            assert "warning" not in err, "the sample has no fault that prepare sees"
    assert (tmp_path / "work/report.html").is_file()


def test_the_output_of_prepare_is_the_real_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    shown = next(text for language, text in code_blocks(README) if language == "text")
    assert run(in_order()[0]) == 0
    out, err = capsys.readouterr()
    lines = {re.sub(r" +", " ", line).strip() for line in (out + err).splitlines()}
    missing = [line for line in map(str.strip, shown.splitlines()) if line not in ("", "...")]
    missing = [line for line in missing if re.sub(r" +", " ", line) not in lines]
    assert missing == []


@pytest.mark.slow
def test_every_command_runs_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for arguments in COMMANDS:
        command = [sys.executable, "-c", _MAIN, *arguments]
        if arguments[0] == "serve":
            _serve(command, tmp_path, environment)
            continue
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def _serve(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Starts a server, waits until it listens, and stops it."""
    process = subprocess.Popen(
        [*command, "--port", "0", "--json", "--quiet"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    document = ""
    assert process.stdout is not None
    for line in process.stdout:
        document += line
        if line.rstrip() == "}":
            break
    assert json.loads(document)["url"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
