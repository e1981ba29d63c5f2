"""`seqloom compare`: tests whether differences between runs are significant."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import plain, session
from seqloom.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from seqloom.cli.fitted_table import FittedTable

_MOST_SENTENCES = 3
"""Pairs, and pairs of systems over seeds, that the terminal tells in sentences; the report has all."""


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RUN...",
            help="Runs on the same data set, in any order. The reference is the run without a language "
            "model that is best on validation, or the first run if all use one.",
        ),
    ],
    report: Annotated[
        Path | None, typer.Option("--report", help="HTML file for a report with charts.")
    ] = None,
    on: options.Part = "test",
    at: Annotated[
        str,
        typer.Option(metavar="K,...", help="Cut-offs of NDCG and HR; the first decides."),
    ] = "10",
    mask_seen: options.MaskSeen = None,
    all_pairs: Annotated[
        bool,
        typer.Option(
            "--all-pairs", help="Test every pair of runs, not only against the reference."
        ),
    ] = False,
    item_map: Annotated[
        int, typer.Option(min=0, help="Items on the report's t-SNE map; 0 disables it.")
    ] = 1000,
    audit_runs: Annotated[
        bool,
        typer.Option("--audit", help="Audit runs without a valid audit for the report."),
    ] = False,
    price_per_hour: Annotated[
        float | None,
        typer.Option(min=0, metavar="PRICE", help="Price of an hour of training, for the report."),
    ] = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Test the differences between runs, user by user.

    Says whether the language model pays: against the best run without one, with confidence intervals and
    corrected p-values.
    """
    from seqloom.cli.named_folders import named_folders

    named = named_folders(runs)
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.compare.compare import compare as run_stage

        comparison = run_stage(
            named,
            report=report,
            on=on,
            at=_cutoffs(at),
            mask_seen=mask_seen,
            all_pairs=all_pairs,
            item_map=item_map,
            audit_runs=audit_runs,
            price_per_hour=price_per_hour,
            progress=current.progress,
        )
        follows = f"seqloom serve {_served(plain(comparison), named)}"
        current.finish(comparison, _render, next_step=follows)


def _cutoffs(text: str) -> tuple[int, ...]:
    from seqloom.cli.comma_list import comma_list

    entries = comma_list(text, "--at")
    wrong = [entry for entry in entries if not entry.isascii() or not entry.isdigit()]
    if wrong:
        raise ConfigError(
            f"--at: {wrong[0]!r} is no cut-off; give whole numbers from 1, such as 1,5,50"
        )
    return tuple(map(int, entries))


def _render(document: Any) -> Iterable[RenderableType]:
    from rich.text import Text

    from seqloom.cli.fitted_table import Paragraph

    verdict = document["verdict"]
    yield Text(verdict["headline"], style="bold")
    yield ""
    yield _ranking(document)
    yield Paragraph(
        f"vs reference: difference from {document['reference']}, with its "
        f"{100 * document['confidence']:g} % interval; p corrected for "
        f"{document['comparisons']} comparisons (Holm).",
        style="dim",
    )
    for sentence in verdict["evidence"]:
        yield Paragraph(sentence)
    for sentence in _further(document):
        yield Paragraph(sentence)
    both = _both_protocols(document)
    if both:
        yield Paragraph(both)
    yield Paragraph(f"{document['reference_chosen']} {' '.join(verdict['cautions'])}", style="dim")


def _ranking(document: Any) -> FittedTable:
    """The runs by the first metric, with their difference from the reference and their cost."""
    from seqloom.cli.fitted_table import Column, FittedTable
    from seqloom.core import number_format as form

    metric = document["scores"][0]["metric"]
    scores = [s for s in document["scores"] if (s["metric"], s["group"]) == (metric, "all")]
    scores.sort(key=lambda score: -(score["value"] or 0.0))
    names = [score["run"] for score in scores]
    costs = {run["name"]: run for run in document["runs"]}
    found = {
        pair["run"]: each
        for pair in document["pairs"]
        if pair["reference"] == document["reference"]
        for each in pair["differences"]
        if (each["metric"], each["group"]) == (metric, "all")
    }
    gaps = [found.get(name, {}) for name in names]
    columns = [
        Column("run", names),
        Column(_label(metric), [form.format_number(score["value"]) for score in scores]),
        Column(
            "vs reference",
            [
                form.format_percent(gap.get("relative"), signed=True) if gap else "reference"
                for gap in gaps
            ],
        ),
        Column(
            f"{100 * document['confidence']:g} % interval",
            [
                form.format_interval(gap["low"], gap["high"], signed=True) if gap else ""
                for gap in gaps
            ],
            drop=1,
        ),
        Column("p", [form.format_p_cell(gap["p_holm"]) if gap else "" for gap in gaps]),
        Column(
            "training",
            [form.format_duration(costs[name]["train_seconds"]) for name in names],
            drop=2,
            dim=True,
        ),
        Column(
            "request",
            [form.format_milliseconds(costs[name]["latency_ms"]) for name in names],
            drop=3,
            dim=True,
        ),
    ]
    answer = document["verdict"]["run"]
    return FittedTable(columns, bold=[names.index(answer)] if answer in names else [])


def _further(document: Any) -> list[str]:
    """The groups of users in sentences, and the seeds."""
    pairs = document["pairs"]
    answer = document["verdict"]["run"]
    if len(pairs) > _MOST_SENTENCES:
        pairs = [p for p in pairs if p["run"] == answer and p["reference"] == document["reference"]]
    metric = document["scores"][0]["metric"]
    seeds = [row for row in document["over_seeds"] if row["metric"] == metric]
    if len(seeds) > _MOST_SENTENCES:
        systems = {run["name"]: run["system"] for run in document["runs"]}
        seeds = [row for row in seeds if row["run"] in (answer, systems.get(answer))]
    groups = [
        f"{pair['run']} against {pair['reference']} by group of users: {groups}"
        for pair in pairs
        if (groups := pair["sentence"].partition("; ")[2])
    ]
    return [*groups, *(row["sentence"] for row in seeds)]


def _both_protocols(document: Any) -> str:
    """The first metric with seen items masked and kept, of the runs that were ranked so."""
    metric = document["scores"][0]["metric"]
    rows = [
        f"{row['run']} {row['masked']:.4f} and {row['unmasked']:.4f}"
        for row in document["protocols"]
        if (row["metric"], row["group"]) == (metric, "all")
        and row["masked"] is not None
        and row["unmasked"] is not None
    ]
    return f"{_label(metric)} with seen items masked and kept: {'; '.join(rows)}." if rows else ""


def _served(document: Any, named: Mapping[str, str]) -> str:
    """The run that answers and the reference, as `serve` takes them."""
    metric = document["scores"][0]["metric"]
    order = sorted(
        (s for s in document["scores"] if (s["metric"], s["group"]) == (metric, "all")),
        key=lambda score: -(score["value"] or 0.0),
    )
    reference = document["reference"]
    best = next((s["run"] for s in order if s["run"] != reference), reference)
    systems = {run["name"]: run["system"] for run in document["runs"]}
    return " ".join(
        shlex.quote(_as_run(name, named[name], systems[name]))
        for name in dict.fromkeys([document["verdict"]["run"] or best, reference])
    )


def _as_run(name: str, folder: str, system: str) -> str:
    """A folder as given; with its name where it has one of its own, or the path holds an `=`."""
    if "=" not in folder and Path(folder).resolve().name == name:
        return folder
    return f"{system if '=' in name else name}={folder}"


def _label(metric: str) -> str:
    return metric.upper()
