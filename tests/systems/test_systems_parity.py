"""Our models against others put together from torch's own layers, with the same weights.

The others are written for one user at a time, from the equations as each class says it follows them, and
share no code with ours: `nn.TransformerEncoderLayer`, `nn.GRUCell`, `nn.Embedding`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from seqloom.data.sequences import Sequences
from seqloom.systems.base import Sizes, System
from seqloom.systems.registry import system_class

ITEMS, WIDTH, MAX_LEN = 30, 16, 8
HISTORIES = [[3], [5, 9, 2], [7, 7, 1, 30, 12, 4, 9, 18], list(range(1, 15))]


def system(name: str, **encoder: Any) -> System[Any]:
    """A system whose every weight is drawn, norms and biases too."""
    cls = system_class(name)
    shape = {"hidden_size": WIDTH, "max_len": MAX_LEN, "num_layers": 2, **encoder}
    made = cls(cls.config_class.build({"encoder": shape}), Sizes(num_items=ITEMS))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(torch.randn(value.shape, generator=draw) * 0.3)
    return made.eval()


def ours(made: System[Any]) -> torch.Tensor:
    batch = Sequences.from_lists(HISTORIES).pad(made.max_len)
    with torch.inference_mode():
        return made.scorer().score(batch.items, batch.lengths)


def transformer(blocks: Any, final: Any) -> nn.TransformerEncoder:
    """torch's encoder of pre-norm GELU layers with the weights of our blocks."""
    block = blocks[0]
    layer = nn.TransformerEncoderLayer(
        WIDTH,
        block.attention.num_heads,
        block.feed_forward[0].out_features,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    made = nn.TransformerEncoder(layer, len(blocks), nn.LayerNorm(WIDTH), False).eval()
    for theirs, block in zip(made.layers, blocks, strict=True):
        attention = block.attention
        pairs = {
            "in_proj_weight": torch.cat([attention.query.weight, attention.key_value.weight]),
            "in_proj_bias": torch.cat([attention.query.bias, attention.key_value.bias]),
            "out_proj.weight": attention.output.weight,
            "out_proj.bias": attention.output.bias,
        }
        theirs.self_attn.load_state_dict(pairs)
        theirs.linear1.load_state_dict(block.feed_forward[0].state_dict())
        theirs.linear2.load_state_dict(block.feed_forward[3].state_dict())
        theirs.norm1.load_state_dict(block.attention_norm.state_dict())
        theirs.norm2.load_state_dict(block.feed_forward_norm.state_dict())
    made.norm.load_state_dict(final.state_dict())
    return made


@torch.no_grad()
def by_sasrec(made: Any) -> torch.Tensor:
    """Item vectors times sqrt(D) plus positions, causal layers, the last state times the item vectors."""
    theirs = transformer(made.encoder.blocks, made.encoder.norm)
    rows = []
    for history in HISTORIES:
        read = torch.tensor(history[-MAX_LEN:]) - 1
        x = made.items[read] * WIDTH**0.5 + made.encoder.position.weight[: len(read)]
        hidden = nn.Transformer.generate_square_subsequent_mask(len(read))
        rows.append(theirs(x[None], mask=hidden, is_causal=True)[0, -1] @ made.items.t())
    return torch.stack(rows)


@torch.no_grad()
def by_bert4rec(made: Any) -> torch.Tensor:
    """[MASK] after the history, positions counted from it, every position sees all; its last state."""
    theirs = transformer(made.encoder.blocks, made.encoder.norm)
    rows = []
    for history in HISTORIES:
        read = torch.tensor(history[-MAX_LEN:]) - 1
        x = torch.cat([made.items[read], made.mask_vector[None]]) * WIDTH**0.5
        x = x + made.encoder.position.weight[: len(x)].flip(0)
        rows.append(theirs(x[None])[0, -1] @ made.items.t())
    return torch.stack(rows)


@torch.no_grad()
def by_gru4rec(made: Any) -> torch.Tensor:
    """Cells step by step, then the linear map, the norm, and the item vectors."""
    recurrent = made.encoder.recurrent
    cells = []
    for layer in range(recurrent.num_layers):
        size = WIDTH if layer == 0 else recurrent.hidden_size
        cell = nn.GRUCell(size, recurrent.hidden_size)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({n: getattr(recurrent, f"{n}_l{layer}") for n in names})
        cells.append(cell)
    rows = []
    for history in HISTORIES:
        states = [torch.zeros(1, recurrent.hidden_size) for _ in cells]
        for item in history[-MAX_LEN:]:
            x = made.items[item - 1][None]
            for layer, cell in enumerate(cells):
                x = states[layer] = cell(x, states[layer])
        rows.append(made.encoder.norm(made.encoder.output(x))[0] @ made.items.t())
    return torch.stack(rows)


CASES = [("sasrec", by_sasrec), ("bert4rec", by_bert4rec), ("gru4rec", by_gru4rec)]


@pytest.mark.parametrize(("name", "other"), CASES)
def test_scores_are_those_of_the_other_implementation(name: str, other: Any) -> None:
    made = system(name)
    torch.testing.assert_close(ours(made), other(made), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "other"), CASES)
def test_the_comparison_would_notice_a_weight(name: str, other: Any) -> None:
    made: Any = system(name)
    before = other(made)
    with torch.no_grad():
        next(iter(made.encoder.parameters())).mul_(1.2)
    assert not torch.allclose(ours(made), before, rtol=1e-3, atol=1e-3)
