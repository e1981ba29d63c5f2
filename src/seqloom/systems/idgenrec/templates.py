"""Prompt templates of recommender and generator, in editable files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from seqloom.core.errors import ConfigError
from seqloom.core.text_files import read_text

HISTORY, TEXT = "{history}", "{text}"
_UNSEEN = "unseen:"


@dataclass(frozen=True)
class Templates:
    """The recommender's prompts, each as the words before and after the history."""

    parts: tuple[tuple[str, str], ...]
    """Trained templates first, then unseen ones."""
    seen: int
    """Number of trained templates."""

    @property
    def open_ended(self) -> bool:
        """Whether every trained prompt ends with the history."""
        return not any(after for _, after in self.parts[: self.seen])


def read_templates(name: str) -> Templates:
    """Reads the recommender's prompts: built-in ones by name, or a file.

    Raises:
        ConfigError: the file does not exist, a line lacks {history} or has another placeholder, or no prompt
            is for training.
    """
    seen: list[tuple[str, str]] = []
    unseen: list[tuple[str, str]] = []
    for line in _text(name).splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        kept = unseen if line.startswith(_UNSEEN) else seen
        line = line.removeprefix(_UNSEEN).strip()
        if line.count(HISTORY) != 1 or line.replace(HISTORY, "").count("{"):
            raise ConfigError(
                f"prompt {line!r} of {name} must hold {HISTORY} once and no other placeholder; IDs of "
                "users are not offered, because the recommender answers bare histories"
            )
        before, _, after = line.partition(HISTORY)
        kept.append((before.rstrip(), after.strip()))
    if not seen:
        raise ConfigError(f"{name} holds no prompt to train on; write one a line, with {HISTORY}")
    return Templates(tuple(seen + unseen), len(seen))


def read_prompt(name: str) -> tuple[str, str]:
    """Reads the generator's prompt, as the words before and after the item's text.

    Raises:
        ConfigError: the file does not exist, or does not hold {text} exactly once.
    """
    text = (name if TEXT in name else _text(name)).strip("\n")
    if text.count(TEXT) != 1:
        raise ConfigError(f"the generator's prompt {name!r} must hold {TEXT} once")
    before, _, after = text.partition(TEXT)
    return before, after


def _text(name: str) -> str:
    own = resources.files("seqloom.systems.idgenrec") / "templates" / f"{name}.txt"
    file = Path(name).expanduser()
    if own.is_file():
        return own.read_text(encoding="utf-8")
    if file.is_file():
        return read_text(file, "prompt file", ConfigError)
    raise ConfigError(f"{name!r} is no prompt file and none of seqloom's (recommend, generate)")
