"""Functions whose calls are recorded, with a recorder for a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqloom.nn.graphs import VARIABLE, RecordedFunction, build_recorder
from support.recorders import Refusing, SameTensors

SCALE = torch.tensor(3.0)


def triple(x: Tensor, places: Tensor) -> Tensor:
    return (x * SCALE)[places]


def call(function: RecordedFunction, value: float, rows: int = 2) -> Tensor:
    """Calls with inputs that are spoilt afterwards, and checks the result."""
    x, places = torch.full((rows,), value), torch.tensor([rows - 1, 0])
    result = function(x, places)
    x.fill_(7)
    places.zero_()
    assert torch.equal(result, torch.full((2,), value * 3))
    return result


def test_the_third_call_of_a_shape_is_recorded_and_later_ones_are_replayed() -> None:
    recorder = SameTensors()
    function = RecordedFunction(triple, recorder)
    results = [call(function, value) for value in (1.0, 2.0, 4.0, 5.0)]
    assert (recorder.rehearsed, recorder.recorded, recorder.replayed) == (1, 1, 2)
    call(function, 6.0, rows=3)
    assert function.shapes == 1
    # A later replay leaves earlier results alone.
    assert [float(result[0]) for result in results] == [3.0, 6.0, 12.0, 15.0]


def test_shapes_are_bounded_and_types_are_told_apart() -> None:
    recorder = SameTensors()
    function = RecordedFunction(triple, recorder, most=1)
    for _ in range(4):
        call(function, 1.0)
        assert (
            function(torch.ones(2, dtype=torch.float64), torch.tensor([0])).dtype == torch.float64
        )
    assert recorder.recorded == function.shapes == 1


def test_recordings_serve_calls_with_and_without_inference_mode() -> None:
    function = RecordedFunction(triple, SameTensors())
    with torch.inference_mode():
        for value in (1.0, 2.0, 3.0):
            call(function, value)
    call(function, 4.0)


def test_what_cannot_be_recorded_is_computed_all_the_same() -> None:
    function = RecordedFunction(triple, Refusing())
    call(function, 1.0)
    with pytest.warns(
        UserWarning, match=r"without CUDA graphs \(called a synchronizing operation\)"
    ):
        call(function, 2.0)
    call(function, 3.0)
    assert function.shapes == 0


def test_casts_of_weights_are_not_kept_by_a_recording() -> None:
    kept: list[bool] = []

    def probe(x: Tensor) -> Tensor:
        kept.append(torch.is_autocast_cache_enabled())
        return x

    with torch.autocast("cpu", torch.bfloat16):
        RecordedFunction(probe, SameTensors())(torch.ones(1))
        assert torch.is_autocast_cache_enabled()
    assert kept == [False]


def test_a_cpu_has_no_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_recorder(torch.device("cpu")) is None
    monkeypatch.setenv(VARIABLE, "0")
    assert build_recorder(torch.device("cuda")) is None
