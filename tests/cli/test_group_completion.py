"""The shell completes commands, options and systems."""

from __future__ import annotations

import pytest

from seqloom.cli.main import run


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seqloom sh", ["show"]),
        ("seqloom train --sys", ["--system"]),
        ("seqloom train data --system llm", ["llminit", "llmesr"]),
        ("seqloom export run --to p", ["parquet", "pgvector"]),
    ],
)
def test_words_are_completed(
    line: str,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = line.split()
    monkeypatch.setenv("_SEQLOOM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit):
        run([])
    assert capsys.readouterr().out.split() == expected
