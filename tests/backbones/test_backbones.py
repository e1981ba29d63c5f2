"""What the sequence encoders see and do not see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from seqloom.backbones.base import SequenceEncoder
from seqloom.backbones.config import AnyEncoderConfig, EncoderConfig
from seqloom.backbones.factory import build_backbone
from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.data.batches import plan_epoch, training_rows
from seqloom.data.sequences import Sequences

KINDS = ["sasrec", "gru4rec", "bert4rec", "bsarec"]


def config_of(kind: str, **keys: Any) -> EncoderConfig:
    values = {"kind": kind, "hidden_size": 8, "max_len": 6, **keys}
    return TypeAdapter(AnyEncoderConfig).validate_python(values)


def encoder_of(kind: str, **keys: Any) -> SequenceEncoder:
    torch.manual_seed(0)
    return build_backbone(config_of(kind, **keys)).eval()


def encode(encoder: SequenceEncoder, x: torch.Tensor, lengths: Any) -> Any:
    with torch.inference_mode():
        return encoder(encoder.enter(x, lengths), lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_later_items_matter_to_earlier_states_only_where_both_sides_are_seen(kind: str) -> None:
    encoder = encoder_of(kind)
    x = torch.randn(1, 5, 8)
    changed = x.clone()
    changed[0, 4] = torch.randn(8)
    lengths = torch.tensor([5])
    first, second = encode(encoder, x, lengths), encode(encoder, changed, lengths)
    same = torch.allclose(first[:, :4], second[:, :4], atol=1e-6)
    assert same == encoder.causal == (kind != "bert4rec")
    assert not torch.allclose(first[:, 4], second[:, 4])


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_the_padding_changes_nothing(kind: str) -> None:
    encoder = encoder_of(kind)
    x = torch.randn(2, 5, 8)
    lengths = torch.tensor([3, 5])
    noise = x.clone()
    noise[0, 3:] = 100.0
    first, second = encode(encoder, x, lengths), encode(encoder, noise, lengths)
    torch.testing.assert_close(first[0, :3], second[0, :3])
    alone = encode(encoder, x[:1, :3], lengths[:1])
    torch.testing.assert_close(first[:1, :3], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_order_matters(kind: str) -> None:
    encoder = encoder_of(kind)
    for weight in encoder.parameters():
        weight.data.mul_(20 if weight.ndim > 1 and kind != "gru4rec" else 1)
    x = torch.randn(1, 4, 8)
    lengths = torch.tensor([4])
    swapped = x[:, [1, 0, 2, 3]]
    first, second = encode(encoder, x, lengths), encode(encoder, swapped, lengths)
    assert not torch.allclose(first[:, 3], second[:, 3], atol=1e-4)


def test_bert4rec_queries_with_a_mask_after_the_history() -> None:
    items = torch.tensor([[4, 5, 0], [1, 2, 3], [0, 0, 0]])
    lengths = torch.tensor([2, 3, 0])
    longer, lengths = encoder_of("bert4rec").as_query(items, lengths, 99)
    assert longer.tolist() == [[4, 5, 99, 0], [1, 2, 3, 99], [99, 0, 0, 0]]
    assert lengths.tolist() == [3, 4, 1]


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec", "bsarec"])
def test_causal_encoders_take_batches_and_histories_as_they_are(kind: str) -> None:
    encoder = encoder_of(kind)
    rows = training_rows(Sequences.from_lists([[1, 2, 3]]), 6, "windows")
    plan = plan_epoch(rows, 4, 0, "x", 0)
    assert encoder.training_batches(plan, 99, 0, 0) is plan
    items, lengths = torch.tensor([[1, 2]]), torch.tensor([2])
    assert encoder.as_query(items, lengths, 99) == (items, lengths)


def test_a_full_history_and_its_mask_have_positions() -> None:
    encoder = encoder_of("bert4rec")
    assert torch.isfinite(encode(encoder, torch.randn(1, 7, 8), torch.tensor([7]))).all()


class Holder(Config):
    """Something with an encoder."""

    encoder: AnyEncoderConfig
    """Any."""


def test_each_kind_has_its_own_defaults_and_sasrec_is_the_default() -> None:
    assert Holder.build({"encoder": {"kind": "gru4rec"}}).encoder.num_layers == 1
    assert Holder.build({"encoder": {"hidden_size": 4}}).encoder.kind == "sasrec"
    again = Holder.build({"encoder": Holder.build({"encoder": {"kind": "bert4rec"}}).encoder})
    assert again.encoder.kind == "bert4rec"


def test_errors_name_the_key_without_the_kind() -> None:
    with pytest.raises(
        ConfigError, match=r"encoder\.hiden_size: unknown key; did you mean 'hidden_"
    ):
        Holder.build({"encoder": {"kind": "gru4rec", "hiden_size": 4}})
    with pytest.raises(ConfigError, match=r"encoder\.num_heads: unknown key.*allowed: hidden_size"):
        Holder.build({"encoder": {"kind": "gru4rec", "num_heads": 4}})
    with pytest.raises(ConfigError, match=r"encoder\.dropout: found 2"):
        Holder.build({"encoder": {"dropout": 2}})
    with pytest.raises(ConfigError, match="kind must be sasrec, gru4rec, bert4rec or bsarec"):
        Holder.build({"encoder": {"kind": "lstm"}})


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_heads 3 does not divide"):
        encoder_of("bert4rec", num_heads=3)
