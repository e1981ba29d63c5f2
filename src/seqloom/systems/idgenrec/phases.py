"""The phases of IDGenRec: tagging, the recommender, and the generator through soft tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.core.phase import Mean, Optimisation
from seqloom.core.random import generator as random_generator
from seqloom.data.batches import EpochPlan, TrainingBatch, training_rows
from seqloom.data.sequences import Sequences
from seqloom.distributed.processes import ALONE, Processes
from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import TextModel
from seqloom.systems.idgenrec.branches import Branches
from seqloom.systems.idgenrec.choices import IDChoices
from seqloom.systems.idgenrec.item_texts import ItemPrompts, OwnWords
from seqloom.systems.idgenrec.models import IDGenRecModels
from seqloom.systems.idgenrec.prompts import Prompts
from seqloom.systems.idgenrec.samples import Mixture, PrefixPlan, prefix_rows
from seqloom.systems.idgenrec.soft_tokens import lay_in, soft_tokens

_TAGGING_BATCH = 4


class RecommenderPhase:
    """Trains the recommender to write the ID of the next item, with a template drawn for each history.

    Source: IDGenRec (arXiv 2403.19021), section 3.3.
    Differs: the loss ignores padding; the IDs, and with them targets and prefix tree, are
        made again before each round; a decoder-only recommender may learn from all items of a history in
        one pass (`samples`); each history is trained with one prompt an epoch, where the authors draw three
        (`prompts_per_history`); there are no "straightforward" prompts, which ask for a user's next item by
        the user's ID alone, because no prompt holds a user; warm-up is a number of steps, the paper's is
        5 % of them; the weights are those of the best validation, the paper's those of the last epoch.
    """

    validated = True

    def __init__(
        self,
        system: IDGenRecModels,
        train: Sequences,
        users: list[int],
        number: int,
        processes: Processes = ALONE,
    ) -> None:
        config = system.config
        self.name = f"recommender-{number + 1}"
        self.optimisation: Optimisation = config.optimisation()
        self._system, self._number = system, number
        self._windows = system.windows
        rows = (
            training_rows(train, config.max_len, "windows")
            if self._windows
            else prefix_rows(train, config.max_len)
        )
        times = config.prompts_per_history
        self._mixture = Mixture(rows, users, config.temperature, config.seed, times)
        self._processes = processes
        self._branches: Branches | None = None

    @property
    def module(self) -> nn.Module:
        """The recommender."""
        return self._system.recommender

    def steps(self, epoch: int) -> EpochPlan | PrefixPlan:
        """Returns the batches of an epoch; makes the IDs of the round before the first."""
        self._system.make_ids(self._number)
        self._system.remembered = None
        self._branches = self._system.branches()
        plan = self._mixture.epoch(self.name, epoch, self._system.config.batch_size)
        return plan if self._windows else PrefixPlan(plan)

    def loss(self, batch: TrainingBatch) -> dict[str, Mean]:
        """Returns the cross-entropy of the tokens of the targets' IDs, including the end mark."""
        system = self._system
        which = draw_templates(system, batch, self._processes)
        if self._windows:
            return {"loss": self._window_loss(batch, which)}
        prompts = system.builder(system.table, batch.inputs.items, which)
        targets = _last_targets(batch)
        embeddings = system.recommender.embed(prompts.tokens)
        logits = system.recommender(embeddings, prompts.mask, system.table[targets])
        return {"loss": id_loss(logits, targets, system.table, self._branches)}

    def _window_loss(self, batch: TrainingBatch, which: Tensor) -> Mean:
        """Returns the loss of the IDs of all items after the first, in one pass."""
        system, model = self._system, self._system.recommender
        assert isinstance(model, DecoderOnly)
        whole = torch.cat([batch.inputs.items[:, :1], batch.targets], 1)  # [B, L + 1]
        prompts = system.builder(system.table, whole, which)
        hidden = model.hidden(model.embed(prompts.tokens))
        at = prompts.following != PAD
        if self._branches is not None:
            # A token without alternative costs nothing, so it is not scored.
            nodes, places = self._branches.of_items(batch.targets)
            choice = self._branches.tree.num_children[nodes] > 1
            logits = model.project(hidden[at][choice])
            return self._branches.loss(logits, nodes[choice], places[choice])
        loss = F.cross_entropy(model.project(hidden[at]).float(), prompts.following[at])
        return Mean(loss, at.sum())


class GeneratorPhase:
    """Trains the generator against the frozen recommender, which reads soft tokens as the latest IDs.

    Source: IDGenRec (arXiv 2403.19021), section 3.3.
    Differs: the IDs of a history's latest `generation.max_history` items are soft (5; the authors: 10), the
        older ones are constant, which bounds the memory of a step; weight decay and clipping are the
        recommender's; the learning rate is larger (`generation.learning_rate`); see also `soft_tokens`.
    """

    validated = False

    def __init__(
        self,
        system: IDGenRecModels,
        train: Sequences,
        users: list[int],
        choices: IDChoices,
        number: int,
        processes: Processes = ALONE,
    ) -> None:
        config = system.config.generation
        self.name = f"generator-{number + 1}"
        self.optimisation = Optimisation(
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=system.config.weight_decay,
            clip_norm=system.config.clip_norm,
        )
        self._system, self._prompts = system, system.item_prompts
        self._choices = choices
        rows = prefix_rows(train, system.config.max_len)
        self._mixture = Mixture(rows, users, system.config.temperature, system.config.seed)
        self._processes = processes
        self._branches: Branches | None = None

    @property
    def module(self) -> nn.Module:
        """The generator."""
        return self._system.generator

    def steps(self, epoch: int) -> PrefixPlan:
        """Returns the batches of an epoch."""
        size = self._system.config.generation.batch_size
        self._branches = self._system.branches()
        return PrefixPlan(self._mixture.epoch(self.name, epoch, size))

    def loss(self, batch: TrainingBatch) -> dict[str, Mean]:
        """Returns the cross-entropy of the target's ID given soft IDs of the history."""
        system, items = self._system, batch.inputs.items
        which = draw_templates(system, batch, self._processes)
        targets = _last_targets(batch)
        with _frozen(system.recommender) as recommender:
            loss = soft_loss(
                system.generator,
                recommender,
                system.builder(system.table, items, which),
                self._latest(batch),
                system.table,
                self._prompts,
                self._choices,
                targets,
                self._branches,
            )
        return {"loss": loss}

    def _latest(self, batch: TrainingBatch) -> Tensor:
        """Returns the items with soft IDs at their places, 0 elsewhere. Shapes: -> [B, L]."""
        items = batch.inputs.items
        place = torch.arange(items.shape[1], device=items.device)
        first = batch.inputs.lengths[:, None] - self._system.config.generation.max_history
        return torch.where(place >= first, items, 0)


def soft_loss(
    generator: TextModel,
    recommender: TextModel,
    prompts: Prompts,
    latest: Tensor,
    table: Tensor,
    item_prompts: ItemPrompts,
    choices: IDChoices,
    targets: Tensor,
    branches: Branches | None = None,
) -> Mean:
    """Returns the recommender's loss as a function of the generator.

    Shapes: latest [B, L] item numbers or 0, table [N + 1, T], targets [B] item numbers.
    """
    # Compute the soft tokens of each distinct item once.
    distinct = latest[latest > 0].unique()
    tokens, mask = item_prompts.batch((distinct - 1).tolist(), table.device)
    ids = table[distinct]
    soft = soft_tokens(generator, recommender, tokens, mask, ids, choices(distinct, ids))
    # Put them in the place of the items' IDs in every prompt.
    rows = torch.searchsorted(distinct, latest).masked_fill(latest == 0, -1)
    embeddings = lay_in(recommender.embed(prompts.tokens), soft, rows, prompts.places)
    logits = recommender(embeddings, prompts.mask, table[targets])
    return id_loss(logits, targets, table, branches)


def id_loss(logits: Tensor, items: Tensor, table: Tensor, branches: Branches | None) -> Mean:
    """Returns the cross-entropy of IDs: among all output tokens, or among the branches of their tree.

    Shapes: logits [B, T, V'], items [B], table [N + 1, T].
    """
    numbers = table[items]
    if branches is None:
        return Mean(_cross_entropy(logits, numbers), _tokens(numbers))
    return branches.loss(logits[numbers != PAD], *branches.of_items(items))


@dataclass(frozen=True)
class TaggingBatch:
    """Item texts and the words to write."""

    tokens: Tensor
    """[B, P] int64."""
    mask: Tensor
    """[B, P] bool."""
    targets: Tensor
    """[B, T] output numbers, PAD after the end."""
    num_targets: int

    def __len__(self) -> int:
        return len(self.targets)

    def share(self, rows: slice) -> TaggingBatch:
        """Returns some of the items."""
        targets = self.targets[rows]
        return TaggingBatch(self.tokens[rows], self.mask[rows], targets, len(targets))

    def to(self, device: torch.device) -> TaggingBatch:
        """Moves the batch to `device`."""
        return TaggingBatch(
            self.tokens.to(device), self.mask.to(device), self.targets.to(device), self.num_targets
        )


@dataclass(frozen=True)
class _TaggingPlan:
    prompts: ItemPrompts
    targets: Tensor
    order: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> TaggingBatch:
        items = self.order[step]
        tokens, mask = self.prompts.batch(items.tolist(), torch.device("cpu"))
        return TaggingBatch(tokens, mask, self.targets[items], len(items))


class TaggingPhase:
    """Teaches the generator to write an item's own words, commonest first, before any ID is made.

    Differs: the paper starts from a T5 that was fine-tuned to tag articles; a model from scratch has to
        learn it from the catalogue.
    """

    name = "tagging"
    validated = False

    def __init__(self, system: IDGenRecModels, texts: list[str]) -> None:
        config = system.config.generation
        self.optimisation = Optimisation(
            epochs=config.tagging_epochs,
            learning_rate=config.tagging_learning_rate,
            weight_decay=system.config.weight_decay,
            clip_norm=system.config.clip_norm,
        )
        self._system = system
        self._prompts = system.item_prompts
        own = OwnWords.of(texts, system.language.lexicon)
        self._targets = own.tags(config.tagging_words)
        self._items = torch.nonzero(self._targets[:, 0] != PAD).flatten()
        self._lengths = torch.tensor([len(self._prompts.rows[i]) for i in self._items.tolist()])

    @property
    def module(self) -> nn.Module:
        """The generator."""
        return self._system.generator

    def steps(self, epoch: int) -> _TaggingPlan:
        """Returns shuffled batches of items that have a word, with texts of similar length together."""
        config = self._system.config
        draw = random_generator(config.seed, "batches", self.name, epoch)
        shuffled = torch.randperm(len(self._items), generator=draw)
        by_length = shuffled[torch.argsort(self._lengths[shuffled], stable=True)]
        batches = self._items[by_length].split(_TAGGING_BATCH * config.generation.batch_size)
        places = torch.randperm(len(batches), generator=draw).tolist()
        return _TaggingPlan(self._prompts, self._targets, tuple(batches[p] for p in places))

    def loss(self, batch: TaggingBatch) -> dict[str, Mean]:
        """Returns the cross-entropy of the words."""
        model = self._system.generator
        logits = model(model.embed(batch.tokens), batch.mask, batch.targets)
        return {"loss": Mean(_cross_entropy(logits, batch.targets), _tokens(batch.targets))}


def draw_templates(system: IDGenRecModels, batch: TrainingBatch, processes: Processes) -> Tensor:
    """Draws a prompt for each history of the batch. Shapes: -> [B] template numbers."""
    whole, own = processes.locate_rows(len(batch))
    with processes.shared_random_state():
        which = torch.randint(system.language.templates.seen, (whole,))[own]
    return which.to(batch.targets.device)


def _tokens(targets: Tensor) -> Tensor:
    """Counts real places. Shapes: [B, T] output numbers -> scalar."""
    return (targets != PAD).sum()


def _last_targets(batch: TrainingBatch) -> Tensor:
    """Returns the item after each history. Shapes: -> [B]."""
    return batch.targets.gather(1, (batch.inputs.lengths - 1)[:, None]).squeeze(1)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean over real places. Shapes: [B, T, V'], [B, T] -> scalar."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(precise.flatten(0, 1), targets.flatten(), ignore_index=PAD)


@contextmanager
def _frozen(model: TextModel) -> Iterator[TextModel]:
    """Within the block, `model` is in evaluation mode and its weights need no gradient."""
    trained = [p for p in model.parameters() if p.requires_grad]
    model.eval().requires_grad_(False)
    try:
        yield model
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
