"""The causal filter against numpy's Fourier transform of the padded window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seqloom.nn.filters import FrequencyRescaling, low_pass_kernel


def by_fourier(sequence: Any, beta: Any, length: Any, cutoff: Any) -> Any:
    """The last position of the padded sequence, filtered as in the paper. Shapes: [T, D] -> [D]."""
    padded = np.zeros((length, sequence.shape[1]))
    padded[length - len(sequence) :] = sequence
    spectrum = np.fft.rfft(padded, axis=0)
    spectrum[cutoff // 2 + 1 :] = 0
    low = np.fft.irfft(spectrum, n=length, axis=0)
    return (low + beta**2 * (padded - low))[-1]


@pytest.mark.parametrize(("length", "cutoff"), [(50, 5), (8, 3), (7, 1), (8, 99), (1, 5), (9, 9)])
def test_every_position_has_the_filter_of_the_window_that_ends_there(
    length: Any, cutoff: Any
) -> None:
    torch.manual_seed(0)
    layer = FrequencyRescaling(3, length, cutoff)
    x = torch.randn(2, min(6, length), 3)
    with torch.no_grad():
        found = layer(x)
    beta = layer.beta.detach().double().numpy()
    for row in range(2):
        for end in range(x.shape[1]):
            window = x[row, : end + 1].double().numpy()
            want = by_fourier(window, beta, length, cutoff)
            np.testing.assert_allclose(found[row, end], want, atol=1e-5)


def test_all_frequencies_leave_the_sequence_as_it_is() -> None:
    kernel = low_pass_kernel(8, 8)
    torch.testing.assert_close(kernel, torch.eye(8)[0], atol=1e-6, rtol=0)
    layer = FrequencyRescaling(2, 8, 8)
    x = torch.randn(1, 8, 2)
    torch.testing.assert_close(layer(x), x)


def test_a_later_position_reaches_no_earlier_one() -> None:
    layer = FrequencyRescaling(2, 8, 3)
    x = torch.randn(1, 8, 2, requires_grad=True)
    layer(x)[0, 4].sum().backward()
    assert x.grad is not None
    assert not x.grad[0, 5:].any()
    assert x.grad[0, :5].all()
