"""The interface between systems and the training loop: phases, each with batches and a loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

from pydantic import Field

from seqloom.core.config import Config

if TYPE_CHECKING:
    from torch import Tensor, nn


Schedule = Literal["constant", "cosine"]


class Optimisation(Config):
    """Optimisation settings of one phase."""

    epochs: int = Field(ge=0)
    """Largest number of epochs."""
    learning_rate: float = Field(gt=0)
    """Peak step size of AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the step size rises from 0."""
    schedule: Schedule = "constant"
    """Course of the step size after warm-up; cosine falls to 0 at the last of all epochs."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of all gradients together; none if not given."""
    averaging: float | None = Field(None, ge=1)
    """The weights that are validated and kept are a mean of those that training passes through, in which
    step t weighs about t to this power less one; none if not given: the weights themselves."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many validations without a better one; never if not given."""
    patience_steps: int = Field(0, ge=0)
    """Train for at least this many steps after the best validation before `patience` may stop."""
    validate_every: int = Field(1, ge=1)
    """Epochs between validations; the last epoch is followed by one as well."""
    metric: str = "ndcg@10"
    """Validation metric that chooses the weights."""
    chosen_among: Literal["training", "phase"] = "training"
    """Which validations compete for the weights that a training ends with: all since the last phase of the
    other kind (training), or those from this phase on (phase: it changes what is measured, so that
    earlier values do not compare). Each phase begins with the best weights of the one before it."""
    undone_unless_best: bool = False
    """Whether the next phase begins with the best weights of all competing phases, so that a phase in which
    validation gained nothing is undone, together with those before it that were not validated."""

    @classmethod
    def of(cls, config: Config) -> Self:
        """Copies the settings that `config` has under the same names; the others keep their defaults."""
        return cls(
            **{key: getattr(config, key) for key in cls.model_fields if hasattr(config, key)}
        )

    def validates(self, epoch: int) -> bool:
        """Returns whether a validation follows epoch 1, 2, ... of a validated phase."""
        return epoch % self.validate_every == 0 or epoch == self.epochs

    @property
    def validations(self) -> int:
        """Number of validations of a validated phase that `patience` does not stop."""
        return math.ceil(self.epochs / self.validate_every)


class Steps(Protocol):
    """The batches of one epoch, each made on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int) -> Any: ...


@runtime_checkable
class Divisible(Protocol):
    """A batch that several processes can divide."""

    def __len__(self) -> int:
        """Returns the number of rows."""

    def share(self, rows: slice) -> Self:
        """Returns contiguous rows as a batch of their own.

        Makes no random draws; shares that cover the batch hold exactly its content.
        """


@runtime_checkable
class FixedShape(Protocol):
    """A batch that can be padded to one of few shapes, so that its step can be recorded and replayed."""

    def padded(self) -> Self:
        """Returns the batch in one of few shapes. Its loss is that of the batch, up to rounding."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Returns every tensor that the loss of the batch reads."""

    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        """Returns the batch with other tensors of the same shapes, in the order of `tensors`."""


@dataclass(frozen=True)
class Mean:
    """A part of a loss: a mean over some terms of a batch (targets, tokens, users), times its weight.

    With the number of terms, means over shares of a batch combine to the mean over the whole batch.
    """

    value: Tensor
    """Scalar; 0 where there are no terms."""
    count: int | Tensor
    """Number of terms of the mean."""


def add_up(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adds the parts up to `loss`, the minimised value, and keeps them; a single part is the loss itself."""
    whole = reduce(add, parts.values())
    return {"loss": whole, **parts} if len(parts) > 1 else {"loss": whole}


class Phase(Protocol):
    """A stretch of training with one objective.

    A phase may have an attribute `replays`, true where its `loss` depends on nothing but the tensors of a
    `FixedShape` batch, the parameters and buffers, and random draws on their device, and keeps nothing.
    Its steps can then be recorded.
    """

    name: str
    optimisation: Optimisation
    validated: bool
    """Whether weights are chosen on validation; if not, the last ones are kept. All that decides the scores
    at a validation belongs to the model's state, because the weights of any of them may be kept."""

    @property
    def module(self) -> nn.Module:
        """The module whose parameters with `requires_grad` are trained."""

    def steps(self, epoch: int) -> Steps:
        """Returns the batches of epoch 0, 1, ...; equal calls give equal batches."""

    def loss(self, batch: Any) -> dict[str, Mean]:
        """Returns the parts of the loss by name; their sum is minimised.

        The global random state is set for the step before the call. A draw that belongs to the batch (a
        negative, a template), not to a layer, is made for the whole batch, whatever share of it this
        process has: see `Processes.shared_random_state`.
        """


def count_targets(batch: Any) -> int:
    """Returns the number of prediction targets of a batch, 0 if the batch does not know it."""
    return int(getattr(batch, "num_targets", 0))
