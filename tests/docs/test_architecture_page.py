"""The architecture page and CONTRIBUTING name modules and objects that exist."""

import importlib
import re
from pathlib import Path

import pytest

from support.documented_commands import ROOT, page

PACKAGE = ROOT / "src/seqloom"
FLOORS = "|".join(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
TEXTS = page("concepts/architecture.md") + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATHS = set(re.findall(rf"`((?:{FLOORS})/[\w/.]+)`", TEXTS)) - {"data/sources/NAME.py"}
NAMES = set(re.findall(rf"`((?:{FLOORS})(?:\.\w+)+)(?:\(.*?\))?`", TEXTS))


def exists(name: str) -> bool:
    """Whether a dotted name below `seqloom` is a module or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (
            Path(PACKAGE, *parts[:length]).is_dir()
            or Path(PACKAGE, *parts[:length]).with_suffix(".py").exists()
        ):
            value = importlib.import_module(".".join(["seqloom", *parts[:length]]))
            for part in parts[length:]:
                value = getattr(value, part, None)
            return value is not None
    return False


@pytest.mark.parametrize("path", sorted(PATHS))
def test_every_path_exists(path: str) -> None:
    assert (PACKAGE / path).exists() or (PACKAGE / f"{path}.py").exists()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_exists(name: str) -> None:
    assert exists(name)
