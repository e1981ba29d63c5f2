"""Reading a file of user ids."""

from __future__ import annotations

from pathlib import Path

from seqloom.pipelines.recommend.user_file import read_users


def test_blanks_around_an_id_belong_to_it_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "users.txt"
    file.write_text("u1\n u 2 \r\n\n  \nu3")
    assert read_users(file) == ["u1", " u 2 ", "u3"]
