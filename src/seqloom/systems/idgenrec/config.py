"""Configuration of IDGenRec."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation
from seqloom.llm.config import NetworkConfig, NetworkSource
from seqloom.systems.base_config import SystemConfig
from seqloom.systems.config import TextTowerConfig, check_part


class TreeConfig(Config):
    """The tree of clusters that names items with ids.make=tree."""

    levels: int = Field(2, ge=1)
    """Number of levels below the root; each gives an ID a word."""
    leaf_items: int = Field(8, ge=1)
    """Mean number of items of a cluster of the last level; with the number of levels it decides how many
    clusters a cluster is divided into."""
    dims: int = Field(128, ge=1)
    """Number of dimensions of the space that is clustered."""
    window: int = Field(3, ge=1)
    """Items of a history that are at most so many places apart count as bought together, by the inverse of
    their distance."""
    events: float = Field(10.0, ge=0)
    """Number of training events of an item from which its neighbours in histories weigh more than its
    words."""


class TextualIDConfig(Config):
    """How textual IDs are made."""

    make: Literal["generator", "tree"] = "generator"
    """generator: a language model writes them; tree: they are the words of a tree of clusters of items that
    are bought together, then words of the item. With a tree there is no generator, and IDs do not change."""
    text: str = "values"
    """Item text: values (of all columns, without column names, which would otherwise count as words of the
    item), full (with column names), title, a file, or a template with {column} in it."""
    file: str | None = None
    """File with the IDs of the first round, written by `seqloom ids`; null: generate them."""
    prompt: str = "generate"
    """Prompt of the generator: the built-in one (generate), a file, or a template with {text} in it."""
    max_text_tokens: int = Field(256, ge=4)
    """Maximum number of tokens that the generator reads of a text. Source: IDGenRec, section 4.1.3."""
    own_words: bool = True
    """Prefer words of the item's own text, and use others only if these give no unique ID. A generator that
    was never trained to tag items then still describes the item."""
    min_word_count: int = Field(1, ge=1)
    """Minimum number of item texts that must contain a word for IDs to use it."""
    most_pieces: int = Field(4, ge=1)
    """Maximum number of tokens of a word in an ID."""
    min_tokens: int = Field(2, ge=1)
    """Minimum number of tokens of an ID in the first attempt."""
    max_tokens: int = Field(8, ge=1)
    """Maximum number of tokens of an ID in the first attempt."""
    longest: int = Field(16, ge=2)
    """Maximum number of tokens of any ID."""
    growth: int = Field(4, ge=1)
    """Increment of both limits when no penalty gives a unique ID; the paper uses 10."""
    groups: int = Field(10, ge=2)
    """Number of candidates for an item whose ID is taken. Source: IDGenRec, section 3.1."""
    max_penalty: int = Field(10, ge=1)
    """Maximum diversity penalty; it rises from 1 before IDs become longer. Source: IDGenRec, section 3.1."""
    tokens_at_once: int = Field(8192, ge=1)
    """Number of prompt tokens in a batch of the generator, with padding; on a CPU at most 1,024."""
    tree: TreeConfig = Field(default_factory=TreeConfig)
    """The tree, with make=tree; of the keys above it reads text, min_word_count, most_pieces, max_tokens (the
    maximum for every ID) and longest."""

    @property
    def most_tokens(self) -> int:
        """Maximum number of tokens of an ID that a tree gives."""
        return min(self.max_tokens, self.longest)

    @model_validator(mode="after")
    def _leaves_room(self) -> TextualIDConfig:
        if self.make == "tree" and self.tree.levels >= self.most_tokens:
            raise ValueError(
                f"tree.levels is {self.tree.levels} and IDs have at most {self.most_tokens} tokens, which "
                "leaves no room for a word of the item; raise max_tokens, or lower tree.levels"
            )
        if self.make == "tree" and self.file is not None:
            raise ValueError(
                f"file names the items ({self.file}) and so does make=tree: leave one of them out"
            )
        return self


class GeneratorConfig(Config):
    """How the ID generator is trained."""

    tagging_epochs: int = Field(0, ge=0)
    """Number of epochs in which it first learns to write an item's own words, common ones first. A model
    from scratch needs some; the paper's generator had been fine-tuned to tag articles."""
    tagging_words: int = Field(4, ge=1)
    """Number of words of an item that it learns to write in tagging."""
    tagging_learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of tagging."""
    epochs: int = Field(1, ge=0)
    """Number of epochs between two rounds of the recommender, which is frozen meanwhile. Source: IDGenRec,
    section 3.3."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate. The paper uses 1e-8, at which AdamW hardly changes a weight; at 1e-6 an epoch
    changes 1 to 2 % of the names, at 1e-4 half of them (docs/guides/idgenrec.md)."""
    batch_size: int = Field(16, ge=1)
    """Number of histories in a batch; tagging has four times as many items in a batch."""
    max_history: int = Field(5, ge=1)
    """Number of most recent items of a history that are read as soft tokens."""


class DenseConfig(Config):
    """A dense text score that is added to the log-probability of an item's ID."""

    enabled: bool = False
    """Train a text tower after the recommender and add its score, with a weight that validation chooses; 0
    and the tower alone are among the choices."""
    nearest: int = Field(100, ge=1)
    """decoding=beam: number of items with the largest dense scores that are ranked beside the beam's."""
    tower: TextTowerConfig = Field(default_factory=TextTowerConfig)
    """Configuration of the text tower; its seed and encoder.max_len are those of the run."""

    @model_validator(mode="after")
    def _check_tower(self) -> DenseConfig:
        check_part(self.tower, "dense.tower", "IDGenRec")
        return self


class RecommenderNetworkConfig(NetworkConfig):
    """Language model of the recommender; from scratch by default, even if only its shape is set."""

    source: NetworkSource = "llama"
    """pretrained, or from scratch: encoder-decoder (t5) or decoder-only (llama)."""
    words_from: str | None = None
    """From scratch: a pretrained model, such as all-minilm-l6-v2, whose token vectors the word vectors start
    from, as principal components of the size of random ones; null: random ones."""

    @model_validator(mode="after")
    def _words_are_its_own(self) -> RecommenderNetworkConfig:
        if self.words_from is not None and self.source == "pretrained":
            raise ValueError(
                "words_from starts the words of a recommender from scratch, and a pretrained one has its "
                "own: set recommender.source=llama or t5, or leave words_from out"
            )
        return self


class IDGenRecConfig(SystemConfig):
    """Configuration of IDGenRec: an ID generator, a recommender over IDs, and their alternating training."""

    epochs: int = Field(10, ge=0)
    """Number of epochs of the recommender in each round. Source: IDGenRec, section 4.1.3."""
    rounds: int = Field(3, ge=1)
    """Number of rounds of the recommender; between two rounds, the generator is trained and makes new IDs. A
    round is undone unless its validation is the best so far: the next one begins with the recommender, the
    generator and the IDs before it."""
    batch_size: int = Field(64, ge=1)
    """Number of histories in a batch of the recommender."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of the recommender. Source: IDGenRec, section 4.1.3. Use about 2e-4 for a pretrained
    SmolLM2."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay. Source: IDGenRec, section 4.1.3."""
    warmup_steps: int = Field(100, ge=0)
    """Steps of linear warm-up of the learning rate."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Maximum norm of the gradient of all parameters; null does not clip."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after warm-up; cosine decays to 0 at the last epoch of a round."""
    averaging: float | None = Field(None, ge=1)
    """Validate and keep a running mean of the recommender's weights in each round, in which step t has a
    weight of about t ** (averaging - 1); null uses the weights themselves. Source: Karras et al. 2024."""
    patience: int | None = Field(None, ge=1)
    """Number of validations without improvement after which a round stops; null: never."""
    validate_every: int = Field(1, ge=1)
    """Number of epochs between validations; the last epoch is followed by one as well."""
    prompts_per_history: int = Field(1, ge=1)
    """Number of prompts, drawn at random, for each history in an epoch; the authors use 3."""
    max_len: int = Field(20, ge=1)
    """Maximum number of history items in a prompt. Source: IDGenRec, section 4.1.3."""
    samples: Literal["auto", "prefixes", "windows"] = "auto"
    """prefixes: one prompt for each target item; windows: a decoder-only recommender learns from every item
    of a history in one pass; auto: windows if model and prompts allow it."""
    temperature: float = Field(1.0, ge=1)
    """Training on several data sets: one with n samples is drawn in proportion to n to the power
    1/temperature."""
    tokenizer: str = "auto"
    """Tokenizer: auto (that of the pretrained model if there is one, else catalogue), catalogue (trained on
    the item texts), or the name of a model."""
    vocab_size: int = Field(8000, ge=300)
    """Number of tokens of a catalogue tokenizer."""
    prune_vocabulary: bool = True
    """Keep only those tokens of the recommender that IDs and prompts use: same results, fewer weights."""
    templates: str = "recommend"
    """Prompts of the recommender: the built-in ones (recommend), or a file with one prompt per line."""
    template: int = Field(0, ge=0)
    """Number of the prompt to recommend with, from 0; unseen prompts are numbered after the others."""
    decoding: Literal["beam", "exact"] = "beam"
    """beam: list the best items by beam search; exact: score the whole catalogue (small catalogues only)."""
    likelihood: Literal["text", "catalogue"] = "catalogue"
    """Probability that scores an item: of its ID among all texts of the same words (text, as in the paper),
    or among the IDs of the catalogue (catalogue: a token counts only where another token also leads to an
    item). The latter needs a fraction of the steps."""
    objective: Literal["text", "catalogue"] = "text"
    """What the recommender learns: each token of an ID among all tokens (text, as in the paper), or, where
    IDs of the catalogue part, among those that go on (catalogue). The latter is the softmax that
    likelihood=catalogue ranks by: it learns in fewer epochs, and learns the training part by heart sooner."""
    length_penalty: float = Field(0.0, ge=0)
    """With likelihood=text, divide an item's score by its number of tokens, including the end mark, to this
    power; 0 keeps the sum of log-probabilities. The authors' search (the default of transformers) uses 1."""
    num_beams: int = Field(20, ge=1)
    """Number of beams; a longer list uses one beam for each item."""
    start_from: str | None = None
    """Folder of a run to continue (few-shot): its tokenizer, prompts, models and weights are used, and the
    keys tokenizer, templates, generator and recommender are ignored."""
    ids: TextualIDConfig = Field(default_factory=TextualIDConfig)
    """How IDs are generated."""
    generation: GeneratorConfig = Field(default_factory=GeneratorConfig)
    """How the generator is trained."""
    dense: DenseConfig = Field(default_factory=DenseConfig)
    """Dense text score."""
    generator: NetworkConfig = Field(default_factory=NetworkConfig)
    """Language model of the generator."""
    recommender: RecommenderNetworkConfig = Field(default_factory=RecommenderNetworkConfig)
    """Language model of the recommender; the paper uses t5-small."""

    @model_validator(mode="after")
    def _fits(self) -> IDGenRecConfig:
        if self.length_penalty and self.likelihood == "catalogue":
            raise ValueError(
                "length_penalty divides by all tokens of an ID, but with likelihood=catalogue only those "
                "with a choice count; set likelihood=text, or length_penalty=0"
            )
        if self.objective == "catalogue" and self.likelihood == "text":
            raise ValueError(
                "objective=catalogue learns no probability of a text, which likelihood=text ranks by: set "
                "likelihood=catalogue, or objective=text"
            )
        if self.ids.make == "tree" and (self.rounds > 1 or self.generation.tagging_epochs):
            raise ValueError(
                "ids.make=tree has no generator, so there is nothing to alternate with and nothing to tag: "
                "set rounds=1 and generation.tagging_epochs=0"
            )
        return self

    def optimisation(self) -> Optimisation:
        """Returns the settings of the recommender's phases."""
        return Optimisation(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup_steps,
            clip_norm=self.clip_norm,
            schedule=self.schedule,
            averaging=self.averaging,
            patience=self.patience,
            validate_every=self.validate_every,
            undone_unless_best=True,
        )
