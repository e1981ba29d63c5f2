"""When a phase is validated."""

from __future__ import annotations

import pytest

from seqloom.core.phase import Optimisation


@pytest.mark.parametrize(
    ("epochs", "every", "expected"),
    [
        (0, 1, []),
        (3, 1, [1, 2, 3]),
        (8, 4, [4, 8]),
        (9, 4, [4, 8, 9]),
        (2, 5, [2]),
    ],
)
def test_a_validation_follows_every_nth_epoch_and_the_last(
    epochs: int, every: int, expected: list[int]
) -> None:
    settings = Optimisation(epochs=epochs, learning_rate=1.0, validate_every=every)
    assert [e for e in range(1, epochs + 1) if settings.validates(e)] == expected
    assert settings.validations == len(expected)
