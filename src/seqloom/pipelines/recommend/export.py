"""The `export` command: writes a run as ONNX for other runtimes."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError, SeqloomError
from seqloom.core.files import atomic_file
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.protocols import Scorer
from seqloom.runs.folder import Run, load_run
from seqloom.systems.ensemble.system import Ensemble
from seqloom.systems.score_sum import cut, standardise
from seqloom.systems.sequence import SequenceSystem

_TOLERANCE = 1e-3
"""Largest relative difference of a score from torch's that counts as rounding."""
_OPSET = 20


class ExportedRun(Config):
    """An ONNX file and how to call it.

    It takes `items` [B, L] int64 (item numbers, oldest first, padded with 0 on the right, 2 <= L <= max_len)
    and `lengths` [B] int64, each at least 1, and gives `scores` [B, N]; column j belongs to line j of
    `item_ids`.
    """

    file: str
    item_ids: str
    """A text file with one item id a line, in the order of their numbers 1..N."""
    system: str
    num_items: int
    max_len: int
    difference: float = Field(ge=0)
    """Largest difference of a score from torch's, over some histories."""


@public_function()
def export(
    run: Run | str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress = AUTO,
) -> ExportedRun:
    """Writes `out` (an `.onnx` file) and the item ids beside it, and compares it with torch.

    Raises:
        ConfigError: the system is no sequence system and no ensemble of some, was trained with
            repeat=learned, `out` exists, or the ONNX libraries are not installed.
        SeqloomError: the exported model gives other scores.
    """
    run = run if isinstance(run, Run) else load_run(run)
    file = Path(out)
    ids = file.with_suffix(".items.txt")
    model, max_len = _scores(run)
    if file.suffix != ".onnx":
        raise ConfigError(f"--out is {file}; give a file that ends in .onnx")
    if file.exists() and not overwrite:
        raise ConfigError(f"{file} exists; choose another --out or give --overwrite")
    _check_ids(run.item_ids)
    progress.note(f"exporting {run.path}")
    program = _program(model, max_len)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as work:
        program.save(str(work))
        difference = _difference(run.scorer, work, max_len)
    with atomic_file(ids) as work:
        work.write_text("".join(f"{item}\n" for item in run.item_ids), encoding="utf-8")
    return ExportedRun(
        file=str(file),
        item_ids=str(ids),
        system=run.system.name,
        num_items=len(run.item_ids),
        max_len=max_len,
        difference=difference,
    )


def export_states(run: Run, file: Path) -> tuple[int, float]:
    """Writes an ONNX file that gives a user's state for a history, for vector search.

    It takes `items` and `lengths` as the model of `export` does and gives `states` [B, D]; the score of an
    item is its inner product with its item vector.

    Returns:
        The longest history that it reads, and the largest difference of a score from torch's.

    Raises:
        ConfigError, SeqloomError: as `export`.
    """
    model, max_len = _scores(run)
    states = _States(model)
    program = _program(states, max_len, output="states")
    program.save(str(file))
    return max_len, _difference(run.scorer, file, max_len, states.vectors)


class _Queries(nn.Module):
    """Encodes histories by one system, times a weight."""

    vectors: Tensor
    covariance: Tensor | None

    def __init__(
        self,
        system: SequenceSystem[Any],
        weight: float = 1.0,
        covariance: Tensor | None = None,
        longest: int | None = None,
    ) -> None:
        super().__init__()
        self.system = system
        self.weight = weight
        self.cut = system.max_len if longest is not None and longest > system.max_len else None
        with torch.inference_mode():
            vectors = system.item_vectors()
        self.register_buffer("vectors", vectors.clone())
        self.register_buffer("covariance", None if covariance is None else covariance.clone())

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, D']."""
        if self.cut is not None:
            items, lengths = cut(items, lengths, self.cut)
        queries = self.system.queries(items, lengths, self.vectors)
        if self.covariance is not None:
            queries = standardise(queries, self.covariance)
        return self.weight * queries


class _Scores(nn.Module):
    """Scores the catalogue after each history, with item vectors computed in advance."""

    def __init__(self, parts: list[_Queries]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, N]."""
        total: Tensor | None = None
        for part in self.parts:
            assert isinstance(part, _Queries)
            scores = part(items, lengths) @ part.vectors.t()
            total = scores if total is None else total + scores
        assert total is not None
        return total


class _States(nn.Module):
    """The states of all parts side by side; their inner product with `vectors` is the score."""

    vectors: Tensor

    def __init__(self, scores: _Scores) -> None:
        super().__init__()
        self.parts = scores.parts
        tables = [part.vectors for part in scores.parts if isinstance(part, _Queries)]
        self.vectors = torch.cat(tables, dim=1).detach()

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, D']."""
        return torch.cat([part(items, lengths) for part in self.parts], dim=1)


def _scores(run: Run) -> tuple[_Scores, int]:
    """Builds one module that gives the run's scores; returns it and the longest history that it reads.

    Raises:
        ConfigError: the system, or a member of an ensemble, is no sequence system, or learned repeats.
    """
    system = run.system
    members = system.systems if isinstance(system, Ensemble) else [system]
    sequence = [member for member in members if isinstance(member, SequenceSystem)]
    other = next((member.name for member in members if member not in sequence), None)
    if other is not None:
        raise ConfigError(
            f"{other} is no sequence encoder; only systems over one, and ensembles of such, can be "
            "exported to ONNX"
        )
    learned = next((member.name for member in sequence if member.repeats is not None), None)
    if learned is not None:
        raise ConfigError(
            f"{learned} was trained with repeat=learned, whose scores are no dot products, so it cannot be "
            "exported to ONNX; train it with repeat=none"
        )
    longest = max(member.max_len for member in sequence)
    if not isinstance(system, Ensemble):
        return _Scores([_Queries(sequence[0])]).eval(), longest
    scorers = zip(sequence, system.member_scorers(), system.weights, strict=True)
    parts = [_Queries(part, float(w), each.covariance, longest) for part, each, w in scorers]
    return _Scores(parts).eval(), longest


def _program(model: nn.Module, max_len: int, output: str = "scores") -> Any:
    """Exports the model as an ONNX program with free batch and length."""
    batch = torch.export.Dim("batch", min=1)
    length = torch.export.Dim("length", min=2, max=max_len)
    example = (torch.tensor([[1, 1, 1], [1, 1, 0]]), torch.tensor([3, 2]))
    try:
        # torch's exporter prints to standard output, which is for results.
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                model,
                example,
                dynamo=True,
                opset_version=_OPSET,
                input_names=["items", "lengths"],
                output_names=[output],
                dynamic_shapes={"items": {0: batch, 1: length}, "lengths": {0: batch}},
            )
    except ModuleNotFoundError as error:
        raise ConfigError(f"export needs {error.name}; pip install 'seqloom[onnx]'") from None


def _difference(scorer: Scorer, file: Path, max_len: int, vectors: Tensor | None = None) -> float:
    """Returns the largest difference of scores from torch's, over histories of many lengths.

    With `vectors`, the model gives states, whose inner products with them are the scores.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("export needs onnxruntime; pip install 'seqloom[onnx]'") from None
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, max_len + 1, (17,), generator=draw)
    items = torch.randint(1, scorer.num_items + 1, (17, max_len), generator=draw)
    items[torch.arange(max_len) >= lengths[:, None]] = 0
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    try:
        (found,) = session.run(None, {"items": items.numpy(), "lengths": lengths.numpy()})
    except Exception as error:
        # onnxruntime's errors have no common base of their own.
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise SeqloomError(
            "the exported model does not take histories of any number and length, so it is not written "
            f"({str(error).splitlines()[0]}); export again in a process of its own"
        ) from None
    with torch.inference_mode():
        expected = scorer.score(items, lengths)
    scores = torch.from_numpy(found)
    if vectors is not None:
        scores = scores @ vectors.t()
    difference = float((scores - expected).abs().max())
    if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise SeqloomError(
            f"the exported model's scores differ from torch's by {difference:.3g}; it is not written"
        )
    return difference


def _check_ids(ids: list[str]) -> None:
    broken = [item for item in ids if "\n" in item or "\r" in item]
    if broken:
        raise ConfigError(
            f"item id {broken[0]!r} holds a line break, so one id a line cannot be written"
        )
