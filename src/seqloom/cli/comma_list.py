"""Lists as one option value, separated by commas."""

from __future__ import annotations

import re

from seqloom.core.errors import ConfigError

_ENTRY = re.compile(r'(?:\s*"((?:[^"]|"")*+)"\s*|(?!\s*")([^,]*))(?=,|\Z)')


def comma_list(text: str, option: str) -> list[str]:
    """Splits `a, b,"c,d"` like a line of CSV: quoted entries are kept verbatim, others are stripped.

    Raises:
        ConfigError: a quote is not closed, or text follows a closing quote. Names `option`.
    """
    entries: list[str] = []
    at = 0
    while at <= len(text):
        entry = _ENTRY.match(text, at)
        if entry is None:
            raise ConfigError(
                f"{option}: the quote before {text[at:].strip()[1:21]!r} is not closed at a comma or the "
                'end; write an entry with a comma or a quote as "a,b" and double its quotes'
            )
        quoted, plain = entry.groups()
        if quoted is not None:
            entries.append(quoted.replace('""', '"'))
        elif plain.strip():
            entries.append(plain.strip())
        at = entry.end() + 1
    return entries
