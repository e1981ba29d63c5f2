"""`seqloom export`: exports a run for other runtimes and for vector search."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

_VECTORS = "Vector search (all targets but onnx)"


def export(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="For onnx a file ending in .onnx, otherwise a folder."),
    ],
    to: Annotated[
        Literal["onnx", "faiss", "parquet", "qdrant", "pgvector", "lancedb"],
        typer.Option(
            "--to",
            "--format",
            metavar="TARGET",
            help="onnx: the model that scores all items. faiss, parquet, qdrant, pgvector, lancedb: item "
            "vectors for a search elsewhere, with the model of user states.",
        ),
    ] = "onnx",
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="Server: postgresql://... for pgvector, http://... for qdrant (key in QDRANT_API_KEY).",
            rich_help_panel=_VECTORS,
            envvar="SEQLOOM_EXPORT_URL",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Table or collection; default: the run's name.",
            rich_help_panel=_VECTORS,
        ),
    ] = None,
    index: Annotated[
        Literal["auto", "exact", "hnsw"],
        typer.Option(
            "--index",
            help="hnsw builds an approximate index, exact none; auto: hnsw above 20,000 items.",
            rich_help_panel=_VECTORS,
        ),
    ] = "auto",
    states: Annotated[
        bool,
        typer.Option(
            "--states/--no-states",
            help="Write states.onnx, which turns a history into a user's state.",
            rich_help_panel=_VECTORS,
        ),
    ] = True,
    k: Annotated[
        int,
        typer.Option(
            "--k",
            "-k",
            min=1,
            help="Length of the lists whose recall is measured.",
            rich_help_panel=_VECTORS,
        ),
    ] = 10,
    dataset: options.Dataset = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a sequence model as ONNX, or item vectors for vector search.

    Checks the scores of a model against torch, and the search of a target against exact lists.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        if to == "onnx":
            _refuse_vector_options(context)
            from seqloom.pipelines.recommend.export import export as run_stage

            model = run_stage(run, out, overwrite=overwrite, progress=current.progress)
            current.finish(model, _render_model)
            return
        from seqloom.pipelines.recommend.vectors.export_vectors import export_vectors

        vectors = export_vectors(
            run,
            out,
            to=to,
            url=url,
            name=name,
            index=index,
            states=states,
            k=k,
            dataset=dataset,
            overwrite=overwrite,
            progress=current.progress,
        )
        current.finish(vectors, _render_vectors)


def _refuse_vector_options(context: typer.Context) -> None:
    for each in ("url", "name", "index", "states", "k", "dataset"):
        source = context.get_parameter_source(each)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                "this option belongs to vector targets; add --to faiss (or parquet, qdrant, ...)",
                param_hint=f"--{each}",
            )


def _render_model(document: Any) -> Iterable[RenderableType]:
    yield f"{document['file']}: scores for {document['num_items']} items, ids in {document['item_ids']}"
    yield f"largest difference from torch: {document['difference']:.2g}"


def _render_vectors(document: Any) -> Iterable[RenderableType]:
    where = document["url"] or document["out"]
    yield (
        f"{where}: {document['items']:,} item vectors of width {document['width']} in {document['to']} "
        f"({document['name']}, {document['index']} search, inner product)"
    )
    yield (
        f"recall@{document['k']} of that search against exact lists: {document['recall']:.4f} "
        f"({document['queries']} {document['histories']})"
    )
    if document["states"]:
        yield (
            f"user states: {document['out']}/{document['states']}, histories up to {document['max_len']} "
            f"items, largest difference from torch {document['difference']:.2g}"
        )
    yield f"search: {document['search']}"
