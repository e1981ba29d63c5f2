"""Configurations that systems share: keys of every system, ranking losses, keys of sequence systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from seqloom.backbones.config import AnyEncoderConfig, SASRecEncoderConfig
from seqloom.core.config import Config, nested
from seqloom.core.phase import Optimisation, Schedule
from seqloom.core.protocols import ReadsEmbedding
from seqloom.data.options import LongHistories


class SystemConfig(Config):
    """Configuration keys of every system."""

    former_defaults: ClassVar[Mapping[str, Any]] = {}
    """Values of dotted keys in the stored configuration of a run that is older than the key."""

    seed: int = 42
    """Seed of all random numbers of the run."""

    @classmethod
    def build(cls, values: Mapping[str, Any] | None = None) -> Self:
        """Builds the configuration from nested mappings; dotted keys open sections.

        Raises:
            ConfigError: names each invalid key by its dotted path, its value and what is allowed.
        """
        return super().build(nested(values or {}))

    @property
    def embeddings(self) -> tuple[str | None, ...]:
        """Names of the text embeddings of the data set that the system reads as configured; None for the
        default one. By the first one new items are described."""
        return (self.text,) if isinstance(self, ReadsEmbedding) else ()

    @classmethod
    def build_stored(cls, values: Mapping[str, Any]) -> Self:
        """Builds the configuration that a run stored, with `former_defaults` for what it lacks.

        Raises:
            ConfigError: as `build`.
        """
        completed = {**values}
        for dotted, value in cls.former_defaults.items():
            *groups, key = dotted.split(".")
            group = completed
            for name in groups:
                group[name] = group = {**group.get(name, {})}
            group.setdefault(key, value)
        return cls.build(completed)


class LossConfig(Config):
    """Kind of ranking loss and how its negatives are drawn."""

    kind: Literal["softmax", "sampled-softmax", "bce", "gbce"] = "softmax"
    """softmax over the whole catalogue; sampled-softmax with logQ correction; bce: binary cross-entropy;
    gbce: calibrated binary cross-entropy."""
    negatives: int = Field(256, ge=1)
    """Number of negatives: for the whole batch with sampled-softmax, for each target with bce and gbce."""
    popularity_power: float = Field(0.5, ge=0, le=1)
    """sampled-softmax draws each item with a probability proportional to (count + 1) to this power."""
    popularity_offset: float = Field(0.0, ge=0)
    """Add this times log(count + 1) to an item's logit in training but not when ranking, so that vectors
    need not express how popular an item is. Source: Menon et al., ICLR 2021, eq. 10."""
    calibration: float = Field(0.75, ge=0, le=1)
    """gbce: 0 is plain BCE, 1 is full calibration. Source: Petrov & Macdonald 2023, section 5."""
    seen_negatives: bool = False
    """bce, gbce: allow negatives from the user's own training part. Default from Kang & McAuley, ICDM 2018,
    section III-E."""

    @property
    def avoids_seen(self) -> bool:
        """Whether the loss needs the seen items of each user."""
        return self.kind in ("bce", "gbce") and not self.seen_negatives


class OffsetLossConfig(LossConfig):
    """Ranking loss of systems that start from text: an offset for popularity, which helps tail items."""

    popularity_offset: float = Field(0.3, ge=0)
    """Add this times log(count + 1) to an item's logit in training but not when ranking, so that vectors
    need not express how popular an item is. Source: Menon et al., ICLR 2021, eq. 10."""


_PATIENCE = {"softmax": 10, "sampled-softmax": 10, "bce": 20, "gbce": 20}
"""Patience in validations by kind of loss: docs/guides/experiments.md, "When training stops"."""
_PATIENCE_STEPS = 250
"""Fewest steps of it: on small data an epoch has few, and validation stands still for many epochs."""


class SequenceConfig(SystemConfig):
    """Configuration keys of every system over a sequence encoder."""

    epochs: int = Field(200, ge=0)
    """Maximum number of epochs; early stopping usually ends training sooner."""
    batch_size: int = Field(128, ge=1)
    """Number of histories in a batch."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up of the learning rate."""
    schedule: Schedule = "constant"
    """Learning rate after warm-up; cosine decays to 0 at the last of all `epochs`."""
    clip_norm: float | None = Field(None, gt=0)
    """Maximum norm of the gradient of all parameters; null does not clip."""
    averaging: float | None = Field(5.0, ge=1)
    """Validate and keep a running mean of the weights, in which step t has a weight of about
    t ** (averaging - 1); null uses the weights themselves. Source: Karras et al. 2024."""
    patience: Annotated[int, Field(ge=1)] | Literal["auto"] | None = "auto"
    """Number of validations without improvement after which training stops. auto: 10 for softmax and
    sampled-softmax, 20 for bce and gbce, whose metric may dip for ten epochs at first, and on small data as
    many more as 250 steps take; null: never."""
    long_histories: LongHistories = "windows"
    """How to train on a history longer than encoder.max_len: cut it into windows, or use its last part."""
    loss: LossConfig = Field(default_factory=LossConfig)
    """Ranking loss."""
    repeat: Literal["learned", "none"] = "none"
    """Score of items that the history holds. learned: a term by how long ago and how often they occurred is
    added, seven parameters that are trained with the rest; needs loss.kind=softmax. none: no term."""
    encoder: AnyEncoderConfig = Field(default_factory=SASRecEncoderConfig)
    """Sequence encoder."""

    @model_validator(mode="after")
    def _check_repeat(self) -> Self:
        if self.repeat == "learned" and self.loss.kind != "softmax":
            raise ValueError(
                f"repeat=learned is trained in the softmax over the catalogue, and loss.kind is "
                f"{self.loss.kind}; set loss.kind=softmax or repeat=none"
            )
        return self

    def optimisation(self) -> Optimisation:
        """Returns the settings of the ranking phase."""
        own = self.model_dump(include=set(Optimisation.model_fields) - {"patience"})
        if self.patience == "auto":
            patience = _PATIENCE[self.loss.kind]
            return Optimisation(**own, patience=patience, patience_steps=_PATIENCE_STEPS)
        return Optimisation(**own, patience=self.patience)


class IDConfig(SequenceConfig):
    """Configuration keys of every system with one item table."""

    initial_std: float = Field(0.02, gt=0)
    """Standard deviation of the initial item table."""
    scale_inputs: bool = True
    """Multiply item vectors by sqrt(hidden_size) before a transformer; has no effect on a recurrent
    network. Source: Vaswani et al. 2017, section 3.4."""
