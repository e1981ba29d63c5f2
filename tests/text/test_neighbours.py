from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.text.neighbours import top_similar


def slow(matrix: torch.Tensor, k: int) -> torch.Tensor:
    """Every pair in float64, ties to the lower number, rows of zeros last."""
    rows = matrix.double().tolist()
    norms = [sum(x * x for x in row) ** 0.5 for row in rows]
    actual = []
    for a, one in enumerate(rows):
        ranked = []
        for b, other in enumerate(rows):
            if a == b:
                continue
            dot = sum(x * y for x, y in zip(one, other, strict=True))
            cosine = dot / ((norms[a] or 1) * norms[b]) if norms[b] else -2
            ranked.append((-round(cosine, 11), b))
        actual.append([b for _, b in sorted(ranked)[:k]])
    return torch.tensor(actual)


def matrices(rows: int, width: int) -> dict[Any, Any]:
    generator = torch.Generator().manual_seed(rows)
    normal = torch.randn(rows, width, generator=generator)
    few = normal[torch.randint(0, 4, (rows,), generator=generator)]
    return {
        "normal": normal,
        "many ties": torch.randint(0, 2, (rows, width), generator=generator).float(),
        "copies of four": few,
        "scaled copies, some zero": few * torch.randint(0, 4, (rows, 1), generator=generator),
    }


@pytest.mark.parametrize(
    "kind", ["normal", "many ties", "copies of four", "scaled copies, some zero"]
)
@pytest.mark.parametrize(("rows", "width", "k"), [(150, 8, 10), (70, 3, 69), (65, 6, 1)])
def test_it_is_the_full_comparison_for_any_block(kind: str, rows: int, width: int, k: int) -> None:
    matrix = matrices(rows, width)[kind]
    expected = slow(matrix, k)
    for tile in (7, 64, 1024):
        assert torch.equal(top_similar(matrix, k, tile=tile), expected)


@pytest.mark.parametrize("kind", ["many ties", "scaled copies, some zero"])
def test_some_rows_have_the_neighbours_that_they_have_among_all(kind: str) -> None:
    matrix = matrices(150, 8)[kind]
    some = torch.tensor([149, 3, 77, 3])
    assert torch.equal(top_similar(matrix, 10, of=some, tile=32), top_similar(matrix, 10)[some])


@pytest.mark.parametrize("rows", [2, 3, 9])
def test_rows_without_a_direction_come_last(rows: int) -> None:
    matrix = torch.zeros(rows, 3)
    matrix[1] = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(top_similar(matrix, rows - 1), slow(matrix, rows - 1))


def test_the_memory_held_does_not_grow_with_the_square_of_the_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    product, held = torch.mm, []

    def watched(left: Any, right: Any, out: Any) -> torch.Tensor:
        held.append(out.numel())
        return product(left, right, out=out)

    monkeypatch.setattr(torch, "mm", watched)
    matrix = matrices(150, 8)["normal"]
    assert torch.equal(top_similar(matrix, 10, tile=20), slow(matrix, 10))
    assert max(held) == 20 * 20
    assert sum(held) < 150 * 150 * 0.6  # a product serves both rows


def test_scores_that_float32_cannot_tell_apart_are_settled_in_float64() -> None:
    one = torch.randn(1, 384, generator=torch.Generator().manual_seed(0))
    step = torch.randn(1, 384, generator=torch.Generator().manual_seed(1)) * 5e-4
    matrix = torch.cat([one + step * number for number in (0, 7, 3.3, 5.1, 1.2, 2.6, 6.4, 4.05)])
    far = torch.randn(40, 384, generator=torch.Generator().manual_seed(2))
    matrix = torch.cat([matrix, far])
    assert torch.equal(top_similar(matrix, 7), slow(matrix, 7))


def test_nobody_is_their_own_neighbour() -> None:
    actual = top_similar(torch.ones(100, 4), 5)
    assert not (actual == torch.arange(100)[:, None]).any()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 to 4"):
        top_similar(torch.ones(5, 2), 5)
    with pytest.raises(ConfigError, match="infinity"):
        top_similar(torch.full((5, 2), torch.inf), 2)
