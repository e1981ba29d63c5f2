"""`seqloom evaluate`: metrics of a run on the held-out part of its data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 40


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("evaluate")(evaluate)


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    protocol: Annotated[
        Literal["full", "sampled"],
        typer.Option(
            "--protocol",
            help="full ranks the whole catalogue; sampled ranks the target among random items, "
            "only to compare with papers that do.",
        ),
    ] = "full",
    on: options.Part = "test",
    mask_seen: options.MaskSeen = True,
    negatives: Annotated[
        int, typer.Option("--negatives", min=1, help="Random items a user, for sampled.")
    ] = 100,
    tail_item_below: Annotated[
        int | None,
        typer.Option(
            "--tail-item-below",
            metavar="N",
            help="Items with fewer training events are tail; default: the 80 % least popular.",
        ),
    ] = None,
    tail_user_below: Annotated[
        int | None,
        typer.Option(
            "--tail-user-below",
            metavar="N",
            help="Users with fewer training events are tail; default: the 80 % with fewest.",
        ),
    ] = None,
    dataset: options.Dataset = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Rank each user's held-out item and report metrics, for all users and by group."""
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.runs.evaluate import evaluate as run_stage

        evaluation = run_stage(
            run,
            protocol=protocol,
            on=on,
            mask_seen=mask_seen,
            negatives=negatives,
            tail_item_below=tail_item_below,
            tail_user_below=tail_user_below,
            dataset=dataset,
            device=device,
            progress=current.progress,
        )
        current.finish(evaluation, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table, metrics_table

    yield f"{document['run']} ({document['system']}): {document['statement']}"
    by_group = ("hr@", "ndcg@", "mrr")
    ranks = {k: v for k, v in document["metrics"].items() if k.startswith(by_group)}
    yield metrics_table(document["users"], ranks, document["groups"])
    lists = {k: v for k, v in document["metrics"].items() if k not in ranks}
    limits = {f"head_{kind} from": count for kind, count in document["thresholds"].items()}
    yield fields_table({**lists, **limits, "seconds": document["seconds"]})
