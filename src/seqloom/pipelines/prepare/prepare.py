"""`prepare`: makes a prepared data set from a log and the texts of its items."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np
import polars as pl
import pyarrow as pa

from seqloom.core.errors import ArtefactError, DataError
from seqloom.core.files import sha256_file, sole_writer
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import merge_options, public_function
from seqloom.core.number_format import format_percent
from seqloom.core.progress import Progress
from seqloom.data.assemble import code_log, in_time_order
from seqloom.data.catalog import arrow_strings, has_text, join_text, user_table
from seqloom.data.checks import Findings, report_missing_ratings, report_repeats
from seqloom.data.filters import (
    Log,
    deduplication_mask,
    exact_repeats,
    k_core,
    shuffle_log,
)
from seqloom.data.repeats import PARTS, mask_reason
from seqloom.data.sources import Source, Table, read_items, read_log
from seqloom.data.sources.precheck import precheck
from seqloom.data.statistics import describe
from seqloom.data.store import Dataset, write_dataset
from seqloom.data.tie_keys import tie_keys
from seqloom.pipelines.prepare.lower_counts import report_small_core
from seqloom.pipelines.prepare.options import PrepareKeywords, PrepareOptions
from seqloom.pipelines.prepare.split_options import split_log


@public_function(PrepareOptions)
def prepare(
    source: Any,
    out: str | Path,
    *,
    items: Any = None,
    options: PrepareOptions | None = None,
    overwrite: bool = False,
    progress: Progress = AUTO,
    **keywords: Unpack[PrepareKeywords],
) -> Dataset:
    """Reads a log (path or data frame), filters and splits it, and writes a prepared data set to `out`.

    `items` is a path or a frame with an id column and text columns; without it, the items of the log's
    format are used. The folder appears complete or not at all.
    The fields of `PrepareOptions` are keywords too: `min_count=3`.

    Raises:
        DataError: the input cannot be read, or no event is left after filtering.
        ArtefactError: `out` exists and `overwrite` is false.
    """
    options = merge_options(PrepareOptions, options, keywords)
    out = Path(out)
    findings = Findings(progress)
    with (
        sole_writer(out, progress),
        progress.task("prepare", total=5, unit="stages") as task,
    ):
        if out.exists() and not overwrite:
            raise ArtefactError(f"{out} already exists; choose another name, or overwrite it")
        precheck(source, items, options)
        raw = read_log(source, options)
        progress.note(_describe_source(raw, options))
        for record in raw.findings:
            findings.add(record["kind"], record["count"], record["message"], record["examples"])
        rows = len(raw.columns["user_id"])
        task.advance()
        coded = code_log(
            raw,
            options.timestamp_unit,
            options.missing,
            findings,
            time_format=options.time_format,
        )
        log = coded.log
        before = {"rows": rows, **describe(log)}
        all_items = log.item_ids
        task.advance()
        log, removed = _filter(log, coded.ratings, raw, options, findings)
        task.advance()
        log, events, facts = split_log(log, options, findings)
        task.advance()
        table = load_items_table(raw, items, options, progress)
        users = raw.users() if raw.users is not None else None
        item_rows, without_text = build_catalogue(log.item_ids, all_items, table, options, findings)
        dataset = write_dataset(
            out,
            items=item_rows,
            users=user_table(log.user_ids, users, findings),
            events=events,
            sources=_sources(raw, table, users, rows),
            options=options.model_dump(mode="json") | {"format": raw.format},
            statistics={
                **describe(log),
                "items": len(log.item_ids),
                "items_without_text": without_text,
                **facts,
                "removed": removed,
                "raw": before,
            },
            warnings=findings.records,
            overwrite=overwrite,
        )
        task.advance()
    return dataset


def _describe_source(raw: Source, options: PrepareOptions) -> str:
    how = " (detected)" if options.format == "auto" and raw.format != "frame" else ""
    text = f"read {raw.name} as {raw.format}{how}{describe_quoting(raw.reading)}"
    if raw.names is None:
        return text
    pairs = ", ".join(f"{role}={own!r}" for role, own in raw.names.by_role().items())
    return f"{text}: {pairs}"


def describe_quoting(reading: dict[str, Any] | None) -> str:
    """Describes how quotes are read, where that was detected and is not RFC 4180."""
    if reading is None or "detected" not in reading:
        return ""
    escape = reading["escape"]
    how = "ordinary characters" if escape is None else f"quotes, escaped by {escape}"
    return f', " as {how} ({reading["detected"]})'


def _filter(
    log: Log, ratings: np.ndarray | None, raw: Source, options: PrepareOptions, findings: Findings
) -> tuple[Log, dict[str, int]]:
    """Applies minimum rating, order by time, duplicates and k-core; counts what each step removes."""
    removed: dict[str, int] = {}
    counts = [f"{len(log):,} events read"]

    def step(name: str, kept: Log) -> Log:
        removed[name] = len(log) - len(kept)
        counts.append(f"{len(kept):,} after {name}")
        if len(kept) == 0:
            raise nothing_left_error(raw.name, counts, options)
        return kept

    if options.min_rating is not None:
        if ratings is None:
            raise no_ratings_error(raw.name)
        absent = int(np.isnan(ratings).sum())
        report_missing_ratings(absent, findings)
        log = step("min_rating", log.take(ratings >= options.min_rating))
    log = in_time_order(log, raw.name, findings, ordered_format=raw.format == "sequences")
    if options.ties == "shuffle":
        log = shuffle_log(log, tie_keys(log.item_ids.to_list()).numpy(), options.tie_seed)
    kept = deduplication_mask(log, options.duplicates)
    if not kept.all():
        log = step("duplicates", log.take(kept))
    again = exact_repeats(log)
    if log.times is not None:
        report_repeats(int(again.sum()), findings)
    core = k_core(log, *options.core)
    if not core.all():
        report_small_core(log, core, raw.name, counts, options, findings.progress)
        log = step("k-core", log.take(core))
    return log.compact(), removed


def nothing_left_error(name: str, counts: list[str], options: PrepareOptions) -> DataError:
    """Returns the error of a log without events after filtering; `counts` are the events after each step."""
    return DataError(
        f"{name} is empty after filtering ({', '.join(counts)}); lower min_count "
        f"({options.core[0]} for users, {options.core[1]} for items) or min_rating"
    )


def no_ratings_error(name: str) -> DataError:
    """Returns the error of a log without ratings where a minimum rating is set."""
    return DataError(
        f"{name} has no rating column, but min_rating is set; name the column with rating_column, or leave "
        "min_rating out"
    )


def load_items_table(
    raw: Source, items: Any, options: PrepareOptions, progress: Progress
) -> Table | None:
    """Loads the items table: the given one, else the one of the log's format.

    Raises:
        DataError: it cannot be read, or text columns are named but there is no table.
    """
    if items is not None:
        table = read_items(items, options, raw)
        if describe_quoting(table.reading):
            progress.note(
                f"read {table.name} with{describe_quoting(table.reading).removeprefix(',')}"
            )
        return table
    if raw.items is not None:
        table = raw.items()
        progress.note(f"item text from {table.name}")
        return table
    if options.text_columns is not None:
        raise DataError("text_columns is set, but there is no items table; give one with items")
    progress.note("the log has no items table: its items have no text")
    return None


def build_catalogue(
    ids: pl.Series,
    all_items: pl.Series,
    table: Table | None,
    options: PrepareOptions,
    findings: Findings,
) -> tuple[pa.Table, int]:
    """Builds the table of the items `ids` with their text, and counts those without text.

    `all_items` are the items of the raw log.

    Raises:
        DataError: a text column does not exist, or the table shares no id with the log.
    """
    if table is None:
        return arrow_strings(pl.DataFrame({"item_id": ids})), len(ids)
    for record in table.findings:
        findings.add(record["kind"], record["count"], record["message"], record["examples"])
    rows = join_text(ids, all_items, table, options.text_columns, findings)
    return arrow_strings(rows), int((~has_text(rows)).sum())


def _sources(
    raw: Source, table: Table | None, users: Table | None, rows: int
) -> list[dict[str, Any]]:
    """Returns the manifest's records of all inputs: files with size and hash, frames with their shape."""
    records = source_records("log", raw.files, raw.name, rows, raw.reading)
    if table is not None:
        records += table_records("items", table)
    if users is not None:
        records += table_records("users", users)
    return records


def table_records(role: str, table: Table) -> list[dict[str, Any]]:
    """Returns the manifest's records of a table of items or users."""
    return source_records(role, table.files, table.name, table.frame.height, table.reading)


def source_records(
    role: str, files: tuple[Path, ...], name: str, rows: int, reading: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Returns the manifest's records of one input, with its dialect where that was detected."""
    if not files:
        return [{"role": role, "frame": name, "rows": rows}]
    how = {"reading": reading} if reading is not None and "detected" in reading else {}
    return [
        {"role": role, "path": str(f), "bytes": f.stat().st_size, "sha256": sha256_file(f)} | how
        for f in files
    ]


def statistics_table(dataset: Dataset) -> list[tuple[str, str]]:
    """Returns the data set's statistics as (label, value) rows for printing."""
    facts = dataset.manifest.statistics
    raw = facts["raw"]
    rows = [(name, f"{facts[name]:,} of {raw[name]:,}") for name in ("users", "items", "events")]
    rows.append(("density", format_percent(facts["density"], 2)))
    lengths = f"{facts['mean_length']:.1f} / {facts['median_length']:g} / {facts['max_length']:,}"
    rows.append(("events per user (mean / median / max)", lengths))
    if "first_date" in facts:
        rows.append(("dates", f"{facts['first_date']} to {facts['last_date']}"))
    rows.append(("items without text", f"{facts['items_without_text']:,}"))
    rows.append(("training events", f"{facts['train_events']:,}"))
    for part in ("valid", "test"):
        begin = f" from {facts[f'{part}_from']}" if f"{part}_from" in facts else ""
        rows.append((f"{part} targets", f"{facts[f'{part}_targets']:,}{begin}"))
    if "cold_items" in facts:
        rows.append(("cold items", f"{facts['cold_items']:,}"))
        rows.append(("test targets that are cold", f"{facts['test_targets_cold']:,}"))
        rows.append(("events of cold items removed", f"{facts['cold_events_removed']:,}"))
    rows.append(("users in training only", f"{facts['train_only_users']:,}"))
    if facts["unused_events"]:
        rows.append(("unused events", f"{facts['unused_events']:,}"))
    rows.extend(_order_rows(dataset))
    rows.extend((f"removed by {step}", f"{count:,}") for step, count in facts["removed"].items())
    return rows


def _order_rows(dataset: Dataset) -> list[tuple[str, str]]:
    """Returns the rows on ties, repeats and seen items; none for a data set of an older seqloom."""
    facts = dataset.manifest.statistics
    rows = []
    if "ties" in facts:
        ties = facts["ties"]
        shown = f"{ties['events']:,} / {ties['valid']:,} / {ties['test']:,}"
        rows.append(("tied in time (events / validation / test targets)", shown))
        for part in ("valid", "test"):
            if ties[f"{part}_dropped"]:
                rows.append((f"{part} targets dropped for ties", f"{ties[f'{part}_dropped']:,}"))
    if "repeats" in facts:
        repeats = facts["repeats"]
        shares = " / ".join(format_percent(repeats[part]["share"]) for part in PARTS)
        rows.append(("repeats (training events / validation / test targets)", shares))
        steps = repeats["train"]["steps"]
        if steps:
            shown = f"{steps['median']:,} / {steps['p90']:,}"
            rows.append(("events since the item occurred last (median / 90 %)", shown))
        share = repeats["train"]["share"]
        choice = str(dataset.manifest.options.get("mask_seen", "auto"))
        rows.append(("seen items", mask_reason(choice, facts["mask_seen"], share)))
    return rows
