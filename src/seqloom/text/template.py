"""Prompt templates: text with {placeholders}, where a missing value also removes its label.

    Title: {title}. Brand: {brand}. Category: {category}.

For an item without a brand this gives `Title: ... . Category: ... .` The words before a
placeholder, back to the last separator (. , ; | or the end of a line), are its label; the text after it
up to and including the next separator is its tail. Label and tail are removed if the value is empty; all
other words stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from seqloom.core.errors import ConfigError

_SEPARATOR = re.compile(r"[.,;|)\]]+(?:\s+|$)|\s*\n\s*")
_DANGLING = re.compile(r"[\s,;|]+$")


@dataclass(frozen=True)
class _Slot:
    """A placeholder with its label and tail."""

    fixed: str
    """Words before the label, which are always rendered."""
    label: str
    field: str
    tail: str


class Template:
    """A parsed template: `fields` are its placeholders, `render` fills them in.

    Raises:
        ConfigError: a brace is not closed, or a placeholder is empty.
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        literals, fields = _split(self.text)
        self.fields: tuple[str, ...] = tuple(fields)
        self._slots, self._end = _slots(literals, fields)

    def check(self, allowed: Sequence[str], what: str) -> None:
        """Checks that the template has placeholders and all are in `allowed`; `what` describes these.

        Raises:
            ConfigError: a placeholder is not allowed, or there is none.
        """
        names = ", ".join(f"{{{name}}}" for name in allowed)
        unknown = [field for field in self.fields if field not in allowed]
        if unknown:
            raise ConfigError(
                f"template {self.text!r} has the placeholder {{{unknown[0]}}}; {what}: {names}"
            )
        if not self.fields:
            raise ConfigError(f"template {self.text!r} has no placeholder; {what}: {names}")

    def render(self, values: Mapping[str, str]) -> str:
        """Renders the text of one row; a missing or blank field adds no text.

        Returns the empty string if all fields are missing.
        """
        parts: list[str] = []
        filled = False
        for slot in self._slots:
            value = " ".join(values.get(slot.field, "").split())
            parts.append(slot.fixed)
            if value:
                filled = True
                # A value that ends its own sentence needs no second full stop.
                ends = value[-1] in ".!?" and slot.tail.startswith(".")
                parts += [slot.label, value, slot.tail[1:] if ends else slot.tail]
        if not filled:
            return ""
        return _DANGLING.sub("", "".join(parts) + self._end).lstrip()


def _split(text: str) -> tuple[list[str], list[str]]:
    """Splits `text` into literals and fields; there is one more literal than fields."""
    literals, fields = [""], []
    try:
        for literal, field, spec, conversion in Formatter().parse(text):
            literals[-1] += literal
            if field is not None:
                # A column's name may contain a colon or an exclamation mark; there are no format specs.
                name = field + (f"!{conversion}" if conversion else "")
                name += f":{spec}" if spec else ""
                if not name.strip():
                    raise ConfigError(
                        f"template {text!r}: a placeholder is empty; write {{name}}, and double a "
                        f"brace to mean the brace itself"
                    )
                fields.append(name.strip())
                literals.append("")
    except ValueError as error:
        raise ConfigError(f"template {text!r}: {error}; double a brace to mean it") from None
    return literals, fields


def _slots(literals: list[str], fields: list[str]) -> tuple[list[_Slot], str]:
    fixed, label = _before(literals[0])
    slots = []
    for i, field in enumerate(fields):
        following = literals[i + 1]
        first = _SEPARATOR.search(following)
        last_one = i == len(fields) - 1
        # Without a separator, the words between two placeholders are the label of the second.
        tail_end = first.end() if first else (len(following) if last_one else 0)
        slots.append(_Slot(fixed, label, field, following[:tail_end]))
        fixed, label = _before(following[tail_end:])
    return slots, fixed + label


def _before(literal: str) -> tuple[str, str]:
    """Splits a literal into fixed words and the label of the next placeholder."""
    cut = max((match.end() for match in _SEPARATOR.finditer(literal)), default=0)
    return literal[:cut], literal[cut:]
