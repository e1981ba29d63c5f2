"""`seqloom evaluate`: metrics of a run on the held-out part of its data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqloom.cli import options
from seqloom.cli.next_step import after_evaluate
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from seqloom.cli.fitted_table import FittedTable


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    protocol: Annotated[
        Literal["full", "sampled"],
        typer.Option(
            "--protocol",
            help="full ranks the whole catalogue; sampled ranks the target against random items, only to "
            "compare with papers that do.",
        ),
    ] = "full",
    on: options.Part = "test",
    mask_seen: options.MaskSeen = None,
    negatives: Annotated[
        int,
        typer.Option("--negatives", min=1, help="Random items per user, with --protocol sampled."),
    ] = 100,
    tail_item_below: Annotated[
        int | None,
        typer.Option(
            "--tail-item-below",
            metavar="N",
            help="Items with fewer training events are in the tail; default: the 80 % least popular.",
        ),
    ] = None,
    tail_user_below: Annotated[
        int | None,
        typer.Option(
            "--tail-user-below",
            metavar="N",
            help="Users with fewer training events are in the tail; default: the 80 % with the fewest.",
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="For systems that list items by beam search: also score the whole catalogue, and report "
            "what the lists lose.",
        ),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            min=1,
            metavar="N",
            help="Evaluate only N users: with --exact all by default, with --rerank 200.",
        ),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(
            "--rerank",
            metavar="MODEL",
            help="Rerank the lists of a sample by a language model (openai:MODEL or a local one), and report "
            "what it gains and costs.",
        ),
    ] = None,
    rerank_options: Annotated[
        list[str] | None,
        typer.Option(
            "--rerank-set",
            metavar="KEY=VALUE",
            help="An option of --rerank, such as candidates=10 or method=list; repeatable.",
        ),
    ] = None,
    zero_shot: Annotated[
        bool,
        typer.Option(
            "--zero-shot",
            help="Recommend items of another data set (--dataset) without training, compared with "
            "popularity and an untrained model (idgenrec).",
        ),
    ] = False,
    dataset: options.Dataset = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Rank each user's held-out item and report metrics.

    Metrics are reported for all users and by group.
    """
    if sample is not None and not exact and rerank is None:
        raise typer.BadParameter("--sample needs --exact or --rerank", param_hint="--sample")
    if rerank_options and rerank is None:
        raise typer.BadParameter("--rerank-set needs --rerank", param_hint="--rerank-set")
    ways = {"--exact": exact, "--zero-shot": zero_shot, "--rerank": rerank is not None}
    special = [name for name, on in ways.items() if on]
    if special and (len(special) > 1 or protocol == "sampled"):
        raise typer.BadParameter(
            "--exact, --zero-shot, --rerank and --protocol sampled exclude each other",
            param_hint=special[0],
        )
    shared: dict[str, Any] = {"on": on, "mask_seen": mask_seen, "device": device}
    with session(json_output=json_output, quiet=quiet, divides=not special) as current:
        if rerank is not None:
            from seqloom.core.config import apply_overrides
            from seqloom.llm.reranking.options import RerankOptions
            from seqloom.pipelines.evaluate.rerank import evaluate_rerank

            values = apply_overrides({"model": rerank}, rerank_options or [])
            outcome = evaluate_rerank(
                run,
                RerankOptions.build(values),
                sample=sample,
                dataset=dataset,
                **shared,
                progress=current.progress,
            )
            current.finish(outcome, _render_rerank)
            return
        if zero_shot:
            if dataset is None:
                raise typer.BadParameter("--zero-shot needs --dataset", param_hint="--dataset")
            from seqloom.pipelines.evaluate.zero_shot import zero_shot as run_zero_shot

            result = run_zero_shot(run, dataset, **shared, progress=current.progress)
            current.finish(result, _render_zero_shot)
            return
        if exact:
            from seqloom.pipelines.evaluate.beam_loss import evaluate_exact

            loss = evaluate_exact(
                run, sample=sample, dataset=dataset, **shared, progress=current.progress
            )
            current.finish(loss, _render_exact)
            return
        from seqloom.pipelines.evaluate.evaluate import evaluate as run_stage

        shared["device"] = current.processes.device(device)
        evaluation = run_stage(
            run,
            protocol=protocol,
            negatives=negatives,
            tail_item_below=tail_item_below,
            tail_user_below=tail_user_below,
            dataset=dataset,
            **shared,
            progress=current.progress,
            processes=current.processes,
        )
        current.finish(evaluation, _render, next_step=after_evaluate(run))


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.fitted_table import Paragraph
    from seqloom.cli.show import rows_table
    from seqloom.core.number_format import format_number
    from seqloom.evaluation.metrics import metric_label

    metrics, shown = document["metrics"], ("ndcg@10", "hr@10")
    found = ", ".join(f"{metric_label(name)} {format_number(metrics[name])}" for name in shown)
    yield f"{document['run']} ({document['system']}): {found}\n"
    yield _by_group(document["users"], metrics, document["groups"])
    if document.get("other"):
        other = document["other"]
        kept = "masked" if other["masked"] else "kept"
        yield f"\nThe same scores with seen items {kept}:\n"
        yield _by_group(document["users"], other["metrics"], other["groups"])
    if document["cold"]:
        cold = document["cold"]
        yield Paragraph(
            f"{cold['users']:,} users have one of {cold['items']:,} cold items as target; scored: "
            f"{cold['how']}; text of the baseline: {cold['text'] or 'none'}"
        )
        yield rows_table(
            [
                {"candidates": r["among"], "scores": r["by"], **r["metrics"]}
                for r in cold["rankings"]
            ]
        )
    yield Paragraph(_words_of(document))
    yield Paragraph(document["statement"], style="dim")


def _by_group(users: int, metrics: Any, groups: Any) -> FittedTable:
    """The metrics of lists of 10 and 20, of all users and by group."""
    from seqloom.cli.fitted_table import Column, FittedTable
    from seqloom.core.number_format import format_number
    from seqloom.evaluation.metrics import metric_label
    from seqloom.evaluation.wording import ALL_USERS, group_label

    rows = {ALL_USERS: {"users": users, "metrics": metrics}, **groups}
    columns = [
        Column("", [group_label(name) for name in rows]),
        Column("users", [format_number(row["users"]) for row in rows.values()]),
    ]
    for drop, name in enumerate(("ndcg@10", "hr@10", "ndcg@20", "hr@20", "mrr")):
        values = [(row["metrics"] or {}).get(name) for row in rows.values()]
        columns.append(Column(metric_label(name), [format_number(v) for v in values], drop))
    return FittedTable(columns)


def _words_of(document: Any) -> str:
    """The lists of 10, the sizes of the groups and the time, in sentences."""
    from seqloom.core.number_format import format_duration, format_number, format_percent

    metrics, sentences = document["metrics"], []
    if "coverage@10" in metrics:
        sentences.append(
            f"Lists of 10 hold {format_percent(metrics['coverage@10'])} of the catalogue; their items have "
            f"{format_number(metrics['popularity@10'], 1)} training events on average."
        )
    limits = document["thresholds"]
    sentences.append(
        f"Rare items have fewer than {format_number(limits['item'])} training events, short histories fewer "
        f"than {format_number(limits['user'])}."
    )
    if document.get("decision"):
        sentences.append(f"Seen items: {document['decision']}.")
    sentences.append(f"{format_duration(document['seconds'])}; all metrics: --json.")
    return " ".join(sentences)


def _render_rerank(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table, rows_table

    yield document.pop("verdict")
    yield rows_table(document.pop("metrics"))
    for reason, count in document.pop("left").items():
        yield f"{count} lists stayed as they were: {reason}"
    document.pop("options")
    yield fields_table(document)


def _render_exact(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table, rows_table

    rows = {"exact": document.pop("metrics"), "lists": document.pop("list_metrics")}
    yield rows_table([{"by": name, **metrics} for name, metrics in rows.items()])
    yield fields_table(document)


def _render_zero_shot(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table, rows_table

    yield f"{document['run']} on {document['dataset']}: {document.pop('statement')}"
    systems = document.pop("systems")
    yield rows_table([{"system": name, **metrics} for name, metrics in systems.items()])
    yield fields_table(document)
