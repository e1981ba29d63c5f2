"""Configuration of IDGenRec."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation
from seqloom.llm.generation.networks import NetworkConfig, Source
from seqloom.systems.base import SystemConfig


class IDConfig(Config):
    """How textual IDs are made."""

    text: str = "values"
    """Item text: values (of all columns, without their names, which would otherwise be taken for words of
    the item), full (with names), title, a file, or a text with {column} in it."""
    file: str | None = None
    """IDs of the first round, as `seqloom ids` wrote them; by default they are made."""
    prompt: str = "generate"
    """The generator's prompt: seqloom's own (generate), a file, or a text with {text} in it."""
    max_text_tokens: int = Field(256, ge=4)
    """Tokens of an item's text that the generator reads. Source: IDGenRec, section 4.1.3."""
    own_words: bool = True
    """Prefer words of the item's own text; others only where these give no unique ID. A generator that
    was never trained to tag items then names what the item is."""
    min_word_count: int = Field(1, ge=1)
    """IDs use words that stand in at least so many items' texts."""
    most_pieces: int = Field(4, ge=1)
    """IDs use words of at most so many tokens."""
    min_tokens: int = Field(2, ge=1)
    """Fewest tokens of an ID at the first attempt."""
    max_tokens: int = Field(8, ge=1)
    """Most tokens of an ID at the first attempt."""
    longest: int = Field(16, ge=2)
    """Most tokens of an ID at all."""
    growth: int = Field(4, ge=1)
    """By how much both limits rise when no penalty gives a unique ID. The paper: 10."""
    groups: int = Field(10, ge=2)
    """Candidates for an item whose ID is taken. Source: IDGenRec, section 3.1."""
    max_penalty: int = Field(10, ge=1)
    """The diversity penalty rises from 1 to this before IDs become longer. Source: as above."""
    tokens_at_once: int = Field(8192, ge=1)
    """Prompt tokens in one batch of the generator, padding included; on a CPU 1,024 at most."""


class GeneratorConfig(Config):
    """How the ID generator is trained."""

    tagging_epochs: int = Field(0, ge=0)
    """Epochs in which it first learns to name an item's own words, common ones first. A model from
    scratch needs some; the paper's generator came with it (fine-tuned to tag articles)."""
    tagging_words: int = Field(4, ge=1)
    """Words of an item that it learns to name."""
    tagging_learning_rate: float = Field(1e-3, gt=0)
    """Peak step size of tagging."""
    epochs: int = Field(1, ge=0)
    """Epochs between two rounds of the recommender, with the recommender frozen. Source: IDGenRec, 3.3."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak step size. The paper has 1e-8, at which AdamW hardly moves a weight; at 1e-6 an epoch changes one
    or two names in a hundred, at 1e-4 half of them (docs/guides/idgenrec.md)."""
    batch_size: int = Field(16, ge=1)
    """Histories in a batch (tagging: items, four times as many)."""
    max_history: int = Field(5, ge=1)
    """Most recent items of a history whose soft tokens are computed at a step."""


class RecommenderNetworkConfig(NetworkConfig):
    """The recommender's model; by default from scratch, whatever of its shape is set."""

    source: Source = "llama"
    """A pretrained model, or one from scratch: encoder-decoder (t5) or decoder-only (llama)."""


class IDGenRecConfig(SystemConfig):
    """IDGenRec: an ID generator, a recommender over IDs, and their alternate training."""

    epochs: int = Field(10, ge=0)
    """Epochs of the recommender in each round. Source: IDGenRec, section 4.1.3."""
    rounds: int = Field(3, ge=1)
    """Rounds of the recommender; between two of them the generator is trained and all IDs are renewed."""
    batch_size: int = Field(64, ge=1)
    """Histories in a batch of the recommender."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak step size of the recommender. Source: as above. A pretrained SmolLM2 wants less, about 2e-4."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay. Source: as above."""
    warmup_steps: int = Field(100, ge=0)
    """Steps over which the step size rises from 0."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Largest norm of all gradients together."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Course of the step size after warm-up."""
    patience: int | None = Field(None, ge=1)
    """Validations without improvement before a round stops; never if not given."""
    validate_every: int = Field(1, ge=1)
    """Epochs between validations."""
    prompts_per_history: int = Field(1, ge=1)
    """With how many prompts each history is trained in an epoch, each drawn anew; the authors: 3."""
    max_len: int = Field(20, ge=1)
    """Items of a history in a prompt. Source: as above."""
    samples: Literal["auto", "prefixes", "windows"] = "auto"
    """prefixes: each item is predicted by a prompt of its own; windows: a decoder-only recommender learns
    from every item of a history in one pass; auto: windows where model and prompts allow it."""
    temperature: float = Field(1.0, ge=1)
    """Foundation training: a data set with n samples is drawn in proportion to n to the power
    1/temperature."""
    tokenizer: str = "auto"
    """auto (that of the pretrained model; where there is none, catalogue), catalogue (trained on the item
    texts), or a model's name."""
    vocab_size: int = Field(8000, ge=300)
    """Tokens of a catalogue tokenizer."""
    prune_vocabulary: bool = True
    """Keep only the recommender's tokens that IDs and prompts use: same results, fewer weights."""
    templates: str = "recommend"
    """The recommender's prompts: seqloom's own (recommend) or a file, one prompt a line."""
    template: int = Field(0, ge=0)
    """Which prompt recommends; the unseen ones are numbered after the others."""
    decoding: Literal["beam", "exact"] = "beam"
    """beam lists the best items; exact scores the whole catalogue (small catalogues only)."""
    likelihood: Literal["text", "catalogue"] = "catalogue"
    """What an item's score is the probability of: its ID among all texts of the same words (text, as in the
    paper), or among the IDs of the catalogue (catalogue: a token counts only where another one would lead
    to an item as well). The latter needs a fraction of the steps."""
    length_penalty: float = Field(0.0, ge=0)
    """With likelihood=text, an item's score is divided by its number of tokens, end mark included, to this
    power; 0 leaves the sum of log-probabilities. The authors' search (transformers' default) has 1."""
    num_beams: int = Field(20, ge=1)
    """Beams; a longer list takes as many as it has places."""
    start_from: str | None = None
    """A run to go on from (few-shot): its tokenizer, prompts, models and weights are taken over, and the
    keys tokenizer, templates, generator and recommender then count for nothing."""
    ids: IDConfig = Field(default_factory=IDConfig)
    """How IDs are made."""
    generation: GeneratorConfig = Field(default_factory=GeneratorConfig)
    """How the generator is trained."""
    generator: NetworkConfig = Field(default_factory=NetworkConfig)
    """The generator's language model."""
    recommender: RecommenderNetworkConfig = Field(default_factory=RecommenderNetworkConfig)
    """The recommender's language model. The paper: t5-small."""

    @model_validator(mode="after")
    def _fits(self) -> IDGenRecConfig:
        if self.length_penalty and self.likelihood == "catalogue":
            raise ValueError(
                "length_penalty divides by all tokens of an ID, but with likelihood=catalogue only those "
                "with a choice count; set likelihood=text, or length_penalty=0"
            )
        return self

    def optimisation(self) -> Optimisation:
        """The settings of the recommender's phases."""
        return Optimisation(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup_steps,
            clip_norm=self.clip_norm,
            schedule=self.schedule,
            patience=self.patience,
            validate_every=self.validate_every,
        )
