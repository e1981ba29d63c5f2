"""`export`: a run for other runtimes, as ONNX."""

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
from seqloom.core.progress import SILENT, Progress
from seqloom.nn.attention import last_position
from seqloom.runs.folder import Run, load_run
from seqloom.systems.sequence import SequenceSystem

_TOLERANCE = 1e-3
"""Largest difference of a score from torch's that is taken for rounding."""
_OPSET = 20


class ExportedRun(Config):
    """An ONNX file and how to ask it.

    It takes `items` [B, L] int64 (item numbers, oldest first, padded with 0 on the right, 2 <= L <= max_len)
    and `lengths` [B] int64, and gives `scores` [B, N]; column j belongs to line j of `item_ids`.
    """

    file: str
    item_ids: str
    """A text file with one item id a line, in the order of their numbers 1..N."""
    system: str
    num_items: int
    max_len: int
    difference: float = Field(ge=0)
    """Largest difference of a score from torch's, over some histories."""


def export(
    run: Run | str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ExportedRun:
    """Write `out` (an `.onnx` file) and the item ids beside it, and compare with torch.

    Raises:
        ConfigError: the system is no sequence system, `out` exists, or the ONNX libraries are not there.
        SeqloomError: the exported model gives other scores.
    """
    run = run if isinstance(run, Run) else load_run(run)
    file = Path(out)
    ids = file.with_suffix(".items.txt")
    system = run.system
    if not isinstance(system, SequenceSystem):
        raise ConfigError(
            f"{system.name} is no sequence encoder; only systems over one can be exported to ONNX"
        )
    if file.suffix != ".onnx":
        raise ConfigError(f"--out is {file}; give a file that ends in .onnx")
    if file.exists() and not overwrite:
        raise ConfigError(f"{file} exists; choose another --out or give --overwrite")
    _check_ids(run.item_ids)
    model = _Scores(system).eval()
    progress.note(f"exporting {run.path}")
    program = _program(model, system.max_len)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as work:
        program.save(str(work))
        difference = _difference(model, work, run.manifest.sizes.num_items, system.max_len)
    with atomic_file(ids) as work:
        work.write_text("".join(f"{item}\n" for item in run.item_ids), encoding="utf-8")
    return ExportedRun(
        file=str(file),
        item_ids=str(ids),
        system=system.name,
        num_items=len(run.item_ids),
        max_len=system.max_len,
        difference=difference,
    )


class _Scores(nn.Module):
    """Scores of the catalogue after each history, the items' vectors computed once."""

    vectors: Tensor

    def __init__(self, system: SequenceSystem[Any]) -> None:
        super().__init__()
        self.system = system
        with torch.inference_mode():
            found = system.item_vectors()
        self.register_buffer("vectors", found.clone())

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, N]."""
        states = self.system.states(items, lengths, self.vectors)
        return last_position(states, lengths) @ self.vectors.t()


def _program(model: _Scores, max_len: int) -> Any:
    """The model as an ONNX program with free batch and length."""
    batch = torch.export.Dim("batch", min=1)
    length = torch.export.Dim("length", min=2, max=max_len)
    example = (torch.tensor([[1, 1, 1], [1, 1, 0]]), torch.tensor([3, 2]))
    try:
        # torch's exporter talks on standard output, which is for results.
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                model,
                example,
                dynamo=True,
                opset_version=_OPSET,
                input_names=["items", "lengths"],
                output_names=["scores"],
                dynamic_shapes={"items": {0: batch, 1: length}, "lengths": {0: batch}},
            )
    except ModuleNotFoundError as error:
        raise ConfigError(f"export needs {error.name}; pip install 'seqloom[onnx]'") from None


def _difference(model: _Scores, file: Path, num_items: int, max_len: int) -> float:
    """Largest difference of scores from torch's, over histories of many lengths."""
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("export needs onnxruntime; pip install 'seqloom[onnx]'") from None
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, max_len + 1, (17,), generator=draw)
    items = torch.randint(1, num_items + 1, (17, max_len), generator=draw)
    items[torch.arange(max_len) >= lengths[:, None]] = 0
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (found,) = session.run(["scores"], {"items": items.numpy(), "lengths": lengths.numpy()})
    with torch.inference_mode():
        expected = model(items, lengths)
    apart = float((torch.from_numpy(found) - expected).abs().max())
    if not apart <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise SeqloomError(
            f"the exported model's scores differ from torch's by {apart:.3g}; it is not written"
        )
    return apart


def _check_ids(ids: list[str]) -> None:
    broken = [item for item in ids if "\n" in item or "\r" in item]
    if broken:
        raise ConfigError(
            f"item id {broken[0]!r} holds a line break, so one id a line cannot be written"
        )
