"""Renders the texts that an encoder reads: one per item, and one per user from the training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pyarrow as pa

from seqloom.core.errors import ConfigError
from seqloom.core.text_files import read_text
from seqloom.data.store import Dataset
from seqloom.text.template import Template

WITHOUT_TEXT = "an item without a description"
"""The text of an item that has none: an encoder cannot read an empty text."""


@dataclass(frozen=True)
class PromptTexts:
    """The texts of items or users in the order of their rows, with counts of missing and cut texts."""

    texts: list[str | None]
    """None for a user without training items."""
    template: str
    """The template's text."""
    without_text: int
    """Items without any attribute; users whose text is None."""
    cut: int = 0
    """Users whose oldest items were dropped because of the limits."""
    limits: tuple[int, int] | None = None
    """Limits of titles and of words of a user's text."""


def text_columns(items: pa.Table) -> list[str]:
    """Returns the text columns of the items, in order.

    Raises:
        ConfigError: the items have no text columns.
    """
    columns = [name for name in items.column_names if name != "item_id"]
    if not columns:
        raise ConfigError(
            "the data set's items have no text; run `seqloom prepare` with --items FILE"
        )
    return columns


def title_column(columns: Sequence[str]) -> str:
    """Returns the column that names an item: `title`, else one ending in title or name, else the first."""
    for ending in ("title", "name"):
        candidates = [c for c in columns if c.lower() == ending]
        candidates += [c for c in columns if c.lower().endswith(ending)]
        if candidates:
            return candidates[0]
    return columns[0]


def naming_column(items: pa.Table) -> str | None:
    """Returns the `title_column` of an items table; None if it has only ids."""
    columns = [name for name in items.column_names if name != "item_id"]
    return title_column(columns) if columns else None


def item_prompts(
    dataset: Dataset, template: str = "full", *, rows: range | None = None
) -> PromptTexts:
    """Renders one text per item; entry i describes item number i + 1. With `rows`, only for these rows.

    `template` is `full` (every text column with its name, or the only column without), `title` (only the
    title), a file, or a text with placeholders for columns; `{title}` is always the column that names an
    item.

    Raises:
        ConfigError: the template does not exist, or names a column that does not exist.
    """
    items = dataset.items
    return item_texts(items if rows is None else items.slice(rows.start, len(rows)), template)


def item_texts(items: pa.Table, template: str = "full") -> PromptTexts:
    """Renders one text per row of an items table; see `item_prompts`."""
    columns = text_columns(items)
    text = template_text(template, "item")
    named = ". ".join(f"{name}: {{{name}}}" for name in columns)
    every = named if len(columns) > 1 else f"{{{columns[0]}}}"
    parsed = Template(text.replace("{attributes}", every))
    values = {name: _strings(items, name) for name in columns}
    values.setdefault("title", values[title_column(columns)])
    parsed.check([*values, "attributes"], "the item columns are")
    rows = zip(*(values[name] for name in parsed.fields), strict=True)
    texts = [parsed.render(dict(zip(parsed.fields, row, strict=True))) for row in rows]
    empty = sum(not text for text in texts)
    return PromptTexts([text or WITHOUT_TEXT for text in texts], text, empty)


def user_prompts(
    dataset: Dataset,
    template: str = "titles",
    *,
    max_items: int = 20,
    max_words: int = 110,
    rows: range | None = None,
) -> PromptTexts:
    """Renders one text per user: the titles of the last training items, the most recent last.

    With `rows`, only for these users. Never reads held-out items. Of a long history the oldest items are
    dropped, first beyond `max_items` titles, then until all titles have at most `max_words` words; the
    most recent title always stays. The text of a user without training items is None.

    Source: LLM-ESR (arXiv 2405.20646), the user prompt of retrieval augmented self-distillation.
    Differs: the limit is in items and words, so that an encoder's own limit does not truncate the most
        recent items, which come last.

    Raises:
        ConfigError: the template does not exist or has a placeholder other than {titles}.
    """
    text = template_text(template, "user")
    parsed = Template(text)
    parsed.check(["titles"], "a user template's placeholder is")
    columns = text_columns(dataset.items)
    titles = [" ".join(t.split()) for t in _strings(dataset.items, title_column(columns))]
    titles = [title or WITHOUT_TEXT for title in titles]
    words = [len(title.split()) for title in titles]
    items = dataset.events.items.numpy()
    train = dataset.train
    chosen = slice(None) if rows is None else slice(rows.start, rows.stop)
    bounds = zip(train.starts[chosen].tolist(), train.ends[chosen].tolist(), strict=True)
    texts: list[str | None] = []
    cut = 0
    for start, end in bounds:
        kept: list[str] = []
        left = max_words
        for item in items[max(start, end - max_items) : end][::-1].tolist():
            left -= words[item - 1]
            if kept and left < 0:
                break
            kept.append(titles[item - 1])
        cut += len(kept) < end - start
        texts.append(parsed.render({"titles": ", ".join(reversed(kept))}) if kept else None)
    return PromptTexts(texts, text, sum(t is None for t in texts), cut, (max_items, max_words))


def template_text(template: str, kind: str) -> str:
    """Returns the text of a template: a built-in one by name, a file, or the text itself.

    Raises:
        ConfigError: the template or file does not exist.
    """
    if "{" in template:
        return template.strip()
    folder = resources.files("seqloom.text") / "templates"
    named = folder / f"{kind}-{template}.txt"
    if named.is_file():
        return named.read_text(encoding="utf-8").strip()
    file = Path(template).expanduser()
    if file.is_file():
        return read_text(file, "template file", ConfigError).strip()
    own = sorted(p.name for p in folder.iterdir() if p.name.startswith(f"{kind}-"))
    names = ", ".join(repr(n.removeprefix(f"{kind}-").removesuffix(".txt")) for n in own)
    raise ConfigError(
        f"{kind} template {template!r} is neither a file nor a built-in template ({names}); a template "
        f"text has placeholders such as {{title}}"
    )


def _strings(items: pa.Table, column: str) -> list[str]:
    return [str(v) if v is not None else "" for v in items.column(column).to_pylist()]
