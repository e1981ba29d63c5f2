"""The loss of instruction tuning: on response tokens alone, as transformers computes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.llm.config import LanguageModelConfig, LoraSettings
from seqloom.llm.loading import load_causal_lm
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.alpaca import RESPONSE, Record
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from seqloom.llm.plugins.tuning import TuneConfig, TuningPhase, check_head, encode_records
from support.language_models import save_tiny_bert, save_tiny_llama

RECORDS = [
    Record("a user" + RESPONSE, "is a task"),
    Record("that describes an instruction" + RESPONSE, "write"),
    Record("below is a task that describes a user" + RESPONSE, "a user is an instruction"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"), seed=4)


@pytest.fixture
def base(folder: Path) -> SharedBase:
    return load_shared_base(LanguageModelConfig(name=str(folder)))


def phase(base: SharedBase, max_tokens: int = 64, batch_size: int = 3) -> TuningPhase:
    torch.manual_seed(0)
    encoded = encode_records(RECORDS, base, max_tokens)
    adapter = Adapter(base, LoraSettings(rank=2, dropout=0.0))
    return TuningPhase(adapter, encoded, TuneConfig(batch_size=batch_size))


def test_the_loss_is_that_of_transformers_with_prompts_masked(
    base: SharedBase, folder: Path
) -> None:
    made = phase(base)
    batch = made.steps(0)[0]
    actual = made.loss(batch)["loss"].value
    model, _ = load_causal_lm(folder)
    labels = batch.inputs.items.clone()
    labels[:, 1:][~batch.learnt] = -100
    labels[:, 0] = -100
    expected = model(input_ids=batch.inputs.items, attention_mask=batch.inputs.mask, labels=labels)
    torch.testing.assert_close(actual, expected.loss)
    actual.backward()
    assert all(value.grad is not None for value in made.module.parameters())


def test_what_is_learnt_is_the_response_and_its_end(base: SharedBase) -> None:
    batch = phase(base).steps(0)[0]
    words, end = base.tokenizer.convert_ids_to_tokens, base.tokenizer.eos_token
    learnt = {
        " ".join(words(row[1:][at].tolist()))
        for row, at in zip(batch.inputs.items, batch.learnt, strict=True)
    }
    assert learnt == {f"{record.response} {end}" for record in RECORDS}
    assert batch.num_targets == 4 + 2 + 6


def test_a_response_is_cut_and_a_prompt_without_room_left_out(base: SharedBase) -> None:
    lengths = [len(base.tokenizer(record.prompt)["input_ids"]) for record in RECORDS]
    longest = max(lengths)
    encoded = encode_records(RECORDS, base, longest)
    assert encoded.kept == [0, 1]
    assert encode_records(RECORDS, base, longest + 2).cut == 1
    assert int(encode_records(RECORDS, base, longest + 2).tokens.lengths.max()) == longest + 2


def test_models_that_change_their_logits_are_refused(
    base: SharedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.backbone.config, "final_logit_softcapping", 30.0, raising=False)
    with pytest.raises(ConfigError, match="final_logit_softcapping"):
        check_head(base)
    encoder = LanguageModelConfig(name=str(save_tiny_bert(tmp_path)), kind="bidirectional")
    with pytest.raises(ConfigError, match="is not a causal language model"):
        check_head(load_shared_base(encoder))
