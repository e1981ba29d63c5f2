import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.text.neighbours import top_similar


def slow(matrix, k):
    """Every pair in float64, ties to the lower number, rows of zeros last."""
    rows = matrix.double().tolist()
    norms = [sum(x * x for x in row) ** 0.5 for row in rows]
    found = []
    for a, one in enumerate(rows):
        ranked = []
        for b, other in enumerate(rows):
            if a == b:
                continue
            dot = sum(x * y for x, y in zip(one, other, strict=True))
            cosine = dot / ((norms[a] or 1) * norms[b]) if norms[b] else -2
            ranked.append((-round(cosine, 11), b))
        found.append([b for _, b in sorted(ranked)[:k]])
    return torch.tensor(found)


def matrices(rows, width):
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
def test_it_is_the_full_comparison_whatever_the_block(kind, rows, width, k):
    matrix = matrices(rows, width)[kind]
    expected = slow(matrix, k)
    for block in (7, 64, 1024):
        assert torch.equal(top_similar(matrix, k, block=block), expected)


def test_some_rows_have_the_neighbours_that_they_have_among_all():
    matrix = matrices(150, 8)["many ties"]
    some = torch.tensor([149, 3, 77, 3])
    assert torch.equal(top_similar(matrix, 10, of=some), top_similar(matrix, 10)[some])


def test_the_scores_held_at_once_do_not_grow_with_the_rows(monkeypatch):
    monkeypatch.setattr("seqloom.text.neighbours._MOST_SCORES", 1000)
    full, held = torch.full, []

    def watched(size, value):
        held.append(size[0] * size[1])
        return full(size, value)

    monkeypatch.setattr(torch, "full", watched)
    matrix = matrices(150, 8)["normal"]
    assert torch.equal(top_similar(matrix, 10), slow(matrix, 10))
    assert held
    assert max(held) <= 1000


def test_nobody_is_their_own_neighbour():
    found = top_similar(torch.ones(100, 4), 5)
    assert not (found == torch.arange(100)[:, None]).any()


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="1 to 4"):
        top_similar(torch.ones(5, 2), 5)
    with pytest.raises(ConfigError, match="infinity"):
        top_similar(torch.full((5, 2), torch.inf), 2)
