"""Instruction tuning: trains an adapter to answer Alpaca records (stage 1 of E4SRec).

Source: E4SRec (arXiv 2312.02443), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.core.phase import Mean, Optimisation
from seqloom.data.batches import EpochPlan, TrainingRows, plan_epoch
from seqloom.data.sequences import PaddedBatch, Sequences
from seqloom.llm.config import LanguageModelConfig, LoraSettings
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.alpaca import Record
from seqloom.llm.plugins.shared_base import SharedBase
from seqloom.nn.losses import softmax_loss

# Settings of models that change the logits after the head; the loss here would not be the model's own.
_CHANGES_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")


class TuneConfig(Config):
    """Keys of `tune-llm`. Source of the defaults: E4SRec, section 4.1.4."""

    seed: int = 42
    """Seed of every random draw."""
    epochs: int = Field(1, ge=0)
    """Passes over the records."""
    batch_size: int = Field(16, ge=1)
    """Records in a batch."""
    learning_rate: float = Field(3e-4, gt=0)
    """Peak step size of AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    warmup_steps: int = Field(100, ge=0)
    """Steps over which the step size rises from 0."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Course of the step size after warm-up; cosine falls to 0 at the end."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Largest norm of all gradients together."""
    max_tokens: int = Field(512, ge=2)
    """Largest number of tokens of prompt and response together; a longer response is cut at its end."""
    llm: LanguageModelConfig = Field(default_factory=LanguageModelConfig)
    """The language model that is tuned."""
    lora: LoraSettings = Field(default_factory=LoraSettings)
    """The adapter."""

    def optimisation(self) -> Optimisation:
        """Returns the settings of the single phase."""
        return Optimisation.of(self)


@dataclass(frozen=True)
class EncodedRecords:
    """Tokenised records: prompt, response, end of text."""

    tokens: Sequences
    prompt_lengths: Tensor
    """[rows] int64, number of prompt tokens in each row."""
    kept: list[int]
    """Numbers, from 0, of the records that have room for a response."""
    cut: int
    """Number of records whose response was cut."""


def encode_records(records: Sequence[Record], base: SharedBase, max_tokens: int) -> EncodedRecords:
    """Tokenises records; leaves out those whose prompt fills `max_tokens`, with no response to learn."""
    ends = [] if base.tokenizer.eos_token_id is None else [base.tokenizer.eos_token_id]
    rows: list[list[int]] = []
    prompt_lengths: list[int] = []
    kept: list[int] = []
    cut = 0
    for number, record in enumerate(records):
        prompt = base.tokenizer(record.prompt)["input_ids"]
        if len(prompt) >= max_tokens:
            continue
        response = base.tokenizer(record.response, add_special_tokens=False)["input_ids"] + ends
        whole = prompt + response
        cut += len(whole) > max_tokens
        rows.append(whole[:max_tokens])
        prompt_lengths.append(len(prompt))
        kept.append(number)
    return EncodedRecords(Sequences.from_lists(rows), torch.tensor(prompt_lengths), kept, cut)


@dataclass(frozen=True)
class _TokenBatch:
    """Batch of tokenised records, padded on the right."""

    inputs: PaddedBatch
    learnt: Tensor
    """[B, T - 1] bool, whether the token after each position belongs to the response."""
    num_targets: int

    def __len__(self) -> int:
        return len(self.inputs)

    def share(self, rows: slice) -> _TokenBatch:
        """See `Divisible`."""
        inputs = self.inputs.share(rows)
        learnt = self.learnt[rows, : inputs.items.shape[1] - 1]
        return _TokenBatch(inputs, learnt, int(learnt.sum()))

    def to(self, device: torch.device) -> _TokenBatch:
        """Copies the batch to `device`."""
        learnt = self.learnt.to(device, non_blocking=True)
        return _TokenBatch(self.inputs.to(device), learnt, self.num_targets)


@dataclass(frozen=True)
class _TokenPlan:
    """The batches of one epoch, made on access."""

    plan: EpochPlan
    prompt_lengths: Tensor

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> _TokenBatch:
        rows = self.plan.order[step]
        inputs = self.plan.rows.items.select(rows).pad()
        # A target is learnt if it lies after the prompt and before the padding.
        target = torch.arange(1, inputs.items.shape[1])
        learnt = (target >= self.prompt_lengths[rows][:, None]) & (target < inputs.lengths[:, None])
        return _TokenBatch(inputs, learnt, int(learnt.sum()))


class TuningPhase:
    """Trains an adapter on the responses of records, each token given all before it.

    The loss covers response tokens alone. Padding is on the right, where a causal model does not attend to
    it, so no attention mask is needed.
    """

    name = "tune"
    validated = False

    def __init__(self, adapter: Adapter, encoded: EncodedRecords, config: TuneConfig) -> None:
        """Raises ConfigError if the language model has no plain output layer."""
        check_head(adapter.base)
        self.module = adapter
        self.optimisation = config.optimisation()
        self._config = config
        self._prompt_lengths = encoded.prompt_lengths
        count = len(encoded.tokens)
        self._rows = TrainingRows(
            encoded.tokens, torch.arange(count), torch.ones(count, dtype=torch.bool)
        )

    def steps(self, epoch: int) -> _TokenPlan:
        """See `Phase`."""
        config = self._config
        plan = plan_epoch(self._rows, config.batch_size, config.seed, self.name, epoch)
        return _TokenPlan(plan, self._prompt_lengths)

    def loss(self, batch: _TokenBatch) -> dict[str, Mean]:
        """Returns the mean cross-entropy of the response tokens."""
        base, tokens = self.module.base, batch.inputs.items
        embeddings = base.backbone.get_input_embeddings()(tokens)
        # [B, T - 1, D]: the state at each position predicts the next token.
        states = self.module.run(embeddings, use_cache=False).last_hidden_state[:, :-1]
        at = batch.learnt
        loss = softmax_loss(states[at].float(), base.head.weight, tokens[:, 1:][at])
        return {"loss": Mean(loss, batch.num_targets)}


def check_head(base: SharedBase) -> None:
    """Checks that logits are states times the output layer's weights, as the loss assumes.

    Raises:
        ConfigError: the model has no output layer, or changes its logits.
    """
    if base.head is None:
        raise ConfigError(
            f"{base.reference.name} is not a causal language model, so it cannot be instruction-tuned"
        )
    extra = [n for n in _CHANGES_LOGITS if getattr(base.backbone.config, n, None) not in (None, 1)]
    if getattr(base.head, "bias", None) is not None:
        extra.append("a bias in the output layer")
    if extra:
        raise ConfigError(
            f"{base.reference.name} computes its logits with {', '.join(extra)}, which tune-llm does "
            "not; tune it elsewhere and give the resulting folder or PEFT adapter as llm.name"
        )
