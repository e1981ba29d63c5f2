"""IDGenRec: a system that recommends by writing the textual ID of the next item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.phase import Phase
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import (
    KnownItems,
    NamingStatistics,
    NewItems,
    NewRows,
    RowsOf,
    Scorer,
)
from seqloom.llm.generation.prefix_tree import PAD, PrefixTree
from seqloom.llm.generation.text_model import TextModel
from seqloom.systems.base import MODEL_FOLDER, TrainingData
from seqloom.systems.idgenrec.choices import IDChoices
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.dense import Dense, ExactSum, UnionScorer
from seqloom.systems.idgenrec.ids import words_only
from seqloom.systems.idgenrec.language import Language, build_language
from seqloom.systems.idgenrec.models import IDGenRecModels
from seqloom.systems.idgenrec.phases import GeneratorPhase, RecommenderPhase, TaggingPhase
from seqloom.systems.idgenrec.scorer import BeamScorer, Decoding, ExactScorer
from seqloom.systems.idgenrec.spelled_prompts import spell_prompt
from seqloom.systems.idgenrec.templates import read_templates
from seqloom.systems.idgenrec.tree.name_tree import NameTree
from seqloom.systems.sequence import DotProductScorer
from seqloom.systems.tail_blend import RememberingBlendPhase
from seqloom.systems.texttower import VECTORS
from seqloom.systems.view_phase import TEXT_ALONE, ViewPhase

IDS = "ids"
"""The name of the table of IDs and of its entry in the state."""

BLENDS = (0.0, 0.3, 1.0, 2.5, 4.0, 8.0, TEXT_ALONE)
"""Candidates for the weight of a dense score."""


class IDGenRec(IDGenRecModels):
    """A generator names items with words; a recommender reads a history of names and writes the next.

    Source: IDGenRec (arXiv 2403.19021).
    Differs: training begins with the recommender (a generator cannot learn from one that knows nothing);
        the prompt holds no user ID, so that a bare history can be answered and no held-out item can leak
        through one; probabilities are over the tokens of IDs alone, by default among the branches of the
        tree (`likelihood`); a round is kept only where validation gains; a score is a sum of
        log-probabilities, which the authors' search divides by the number of tokens (`length_penalty`).
        See also the phases, `soft_tokens` and `IDMaker`. The paper's form, as far as it goes, is
        configs/idgenrec/paper.yaml.
    """

    name: ClassVar[str] = "idgenrec"
    config_class: ClassVar[type[IDGenRecConfig]] = IDGenRecConfig
    mixes_datasets: ClassVar[bool] = True
    shards: ClassVar = "trained"
    new_items_by = "words"

    def initialise(self, data: TrainingData) -> None:
        """Loads or draws the models; the first IDs are made when training begins, on its device."""
        self._read_items(data.dataset.items, data.dataset.item_ids, data.progress)
        if self.config.start_from is not None:
            self._take_over(Path(self.config.start_from))
        else:
            self._build(build_language(self.config, self._texts, data.progress))
        self.tree = self._grow_tree(data)
        if self.tower is not None:
            self.tower.initialise(data)
        self.item_prompts = self.prompts_of(self._texts)

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns tagging if it has epochs, then recommender and generator in turn, then the dense score."""
        train = data.dataset.train
        origins = data.dataset.manifest.options.get("origins")
        users = [o["users"] for o in origins] if origins else [data.dataset.num_users]
        phases: list[Phase] = []
        if self.config.generation.tagging_epochs:
            phases.append(TaggingPhase(self, self._texts))
        choices = IDChoices(self._texts, self.language.lexicon, self.config.ids)
        for number in range(self.config.rounds):
            if number and self.config.generation.epochs:
                before = number - 1
                phases.append(GeneratorPhase(self, train, users, choices, before, data.processes))
            phases.append(RecommenderPhase(self, train, users, number, data.processes))
        if self.tower is not None:
            phases.append(ViewPhase(self.tower, data, "dense", self, TEXT_ALONE))
            phases.append(RememberingBlendPhase("blend", self, "blend", BLENDS))
        return phases

    def rehearse(self) -> float:
        """Makes cheap IDs in place of those of all rounds."""
        seconds = 0.0
        if self.config.ids.file is not None or self.tree is not None:
            self.make_ids(0)
        else:
            maker = self.maker(self.language, self._progress)
            ids, seconds = maker.rehearse(self._texts, self.item_prompts)
            self.ids[1:] = ids.to(self.ids.device)
            self._table = None
        self.made.fill_(self.config.rounds)
        return seconds * (self.config.rounds if self.config.generation.epochs else 1)

    def scorer(self) -> Scorer:
        """Returns the recommender over the present IDs, with the dense score if that has a weight."""
        if int(self.made) < 0:  # no epoch of the recommender came before
            self.make_ids(0)
        return self._blended(self.table, None)

    def finish(self) -> None:
        """Drops the items' texts and remembered searches. A run without a trained epoch gets its IDs here."""
        self.make_ids(0)
        self.remembered = None
        self._texts, self._item_ids = [], []
        del self.item_prompts

    def shard(self, device: torch.device) -> None:
        """Spreads the layers of both models over the processes."""
        if self.tree is None:
            self.generator.shard(device)
        self.recommender.shard(device)

    def reopen(self, data: TrainingData) -> None:
        """Reads the items' texts again."""
        self._read_items(data.dataset.items, data.dataset.item_ids, data.progress)
        self.item_prompts = self.prompts_of(self._texts)

    @property
    def fixed_entries(self) -> frozenset[str]:
        """The tree, and the words of the items that a dense score reads."""
        tree = () if self.tree is None else self.tree.state_dict()
        tower = () if self.tower is None else self.tower.fixed_entries
        return frozenset([*(f"tree.{n}" for n in tree), *(f"tower.{n}" for n in tower)])

    @property
    def uses_language_model(self) -> bool:
        """True, unless validation chose the dense score alone, and its words started at random."""
        named = self.tower is None or float(self.blend) < TEXT_ALONE
        return named or (self.tower is not None and self.tower.uses_language_model)

    @property
    def reads_text(self) -> bool:
        """True: names are words of the texts."""
        return True

    # See `core.protocols.ExtendsCatalogue`.

    def item_tables(self) -> dict[str, Tensor]:
        """Returns the IDs, and the text vectors of a dense score. Shapes: [N, longest + 1], [N, D]."""
        tables = {IDS: self.ids[1:]}
        return tables if self.tower is None else tables | self.tower.item_tables()

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """Returns a function that names new items with the catalogue's words."""

        def rows(new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
            texts = self.texts_of(new.items)
            ids, _ = self.name_texts(texts, new.item_ids, taken=words_only(tables[IDS]))
            tables = {IDS: ids.to(self.ids.device)}
            if self.tower is not None:
                tables[VECTORS] = self.tower.vectors_of(new.items)
            return NewRows(tables)

        return rows

    def scorer_over(self, tables: Mapping[str, Tensor]) -> Scorer:
        """Returns the recommender over longer tables."""
        return self._blended(_table_of(tables[IDS]), tables.get(VECTORS))

    # See `core.protocols.NamesItems`.

    @property
    def ids_file(self) -> str | None:
        """The file that the present IDs were read from; None if the generator made them."""
        renewed = self.config.generation.epochs and int(self.made) > 0
        return None if renewed else self.config.ids.file

    @property
    def named_from(self) -> str:
        """The item texts, and with a tree also the training part."""
        return "item texts alone" if self.tree is None else "item texts and the training part"

    @property
    def start_from(self) -> str | None:
        """The run that training continued."""
        return self.config.start_from

    @property
    def num_templates(self) -> int:
        """The number of prompt templates."""
        return len(self.language.templates.parts)

    def new_ids(
        self, texts: Sequence[str], item_ids: Sequence[str], progress: Progress = SILENT
    ) -> tuple[Tensor, NamingStatistics]:
        """Names another catalogue with the tree or the present generator, in words of its own texts.

        Shapes: -> [M, longest + 1] output numbers.
        """
        language = self.language.with_words(texts, self.config.ids)
        return self.name_texts(texts, item_ids, language=language, progress=progress)

    def remake_ids(
        self, items: pa.Table, item_ids: Sequence[str], progress: Progress = SILENT
    ) -> Tensor:
        """Names the training catalogue again with the present generator, or reads the file again.

        Shapes: -> [N, longest + 1] output numbers.
        """
        self._read_items(items, item_ids, progress)
        self.item_prompts = self.prompts_of(self._texts)
        return self._name_items(max(0, int(self.made)) if self.config.generation.epochs else 0)

    def words(self, ids: Tensor | None = None, texts: Sequence[str] = ()) -> list[str]:
        """Writes IDs out, by default those of the catalogue.

        Args:
            texts: the item texts that `new_ids` was given, for IDs of another catalogue.

        Shapes: ids [M, T] output numbers -> M texts.
        """
        language = self.language.with_words(texts, self.config.ids) if texts else self.language
        rows = self.ids[1:] if ids is None else ids
        return [language.lexicon.text(row) for row in rows.tolist()]

    def scorer_of_ids(
        self, ids: Tensor, recommender: Any = None, items: pa.Table | None = None
    ) -> Scorer:
        """Returns a scorer of a catalogue with these IDs, by another recommender if one is given.

        A dense score takes part if `items`, the texts of that catalogue, are given.

        Shapes: ids [M, T] output numbers.
        """
        table = _table_of(ids.to(self.ids.device))
        if items is None or self.tower is None:
            return self._scorer(table, self.recommender if recommender is None else recommender)
        return self._blended(table, self.tower.vectors_of(items))

    def templates_match_source(self) -> bool:
        """Returns whether the templates equal those of their file, or of the run `start_from`."""
        if self.config.start_from is None:
            return read_templates(self.config.templates) == self.language.templates
        earlier = Language.load(Path(self.config.start_from) / MODEL_FOLDER)
        return earlier.templates == self.language.templates

    def prompt_tokens(self, items: Tensor, templates: Tensor) -> list[list[int]]:
        """Returns the tokens that the recommender reads of each history.

        Shapes: items [B, L], templates [B] -> B rows.
        """
        device = self.ids.device
        prompts = self.builder(self.table, items.to(device), templates.to(device))
        return [row[real].tolist() for row, real in zip(prompts.tokens, prompts.mask, strict=True)]

    def spell_prompt(self, items: Sequence[int], template: int) -> list[int]:
        """Writes the prompt of a history of item numbers token by token."""
        return spell_prompt(self.language, self.table, items, template)

    def _grow_tree(self, data: TrainingData) -> NameTree | None:
        """Builds the tree that names the items, if they are named by one."""
        config = self.config
        if config.ids.make != "tree":
            return None
        with data.progress.task("tree of names", 1, "trees") as task:
            tree = NameTree.fit(
                data.dataset.train,
                self._texts,
                self._item_ids,
                self.language.lexicon,
                config.ids,
                config.seed,
            )
            task.advance(1)
        return tree

    def _blended(self, table: Tensor, vectors: Tensor | None) -> Scorer:
        """Returns the scorer of IDs, with the dense score if that has a weight.

        Shapes: table [N + 1, T], vectors [N, D], by default those of the training's items.
        """
        weight = 0.0 if self.tower is None else float(self.blend)
        if self.tower is not None and weight >= TEXT_ALONE:
            return self.tower.vector_scorer(vectors)
        ids = self._scorer(table, self.recommender.whole())
        if self.tower is None or not weight:
            return ids
        dense = Dense(DotProductScorer(self.tower, vectors), weight, self.tower.max_len)
        if isinstance(ids, ExactScorer):
            return ExactSum(ids, dense)
        return UnionScorer(ids, dense, self.config.dense.nearest, self.remembered)

    def _scorer(self, table: Tensor, recommender: TextModel) -> BeamScorer | ExactScorer:
        config = self.config
        if config.template >= self.num_templates:
            raise ConfigError(
                f"template is {config.template}; there are prompts 0 to {self.num_templates - 1}"
            )
        tree = PrefixTree.build(table[1:]).to(self.ids.device)
        decoding = Decoding(
            config.template, config.num_beams, config.likelihood, config.length_penalty
        )
        beam = BeamScorer(recommender, self.builder, table, tree, decoding)
        return beam.exact_scorer() if config.decoding == "exact" else beam


def _table_of(ids: Tensor) -> Tensor:
    """Cuts IDs to their longest, below a row of padding. Shapes: [M, T] -> [M + 1, T']."""
    ids = ids[:, : int((ids != PAD).sum(1).max())]
    return torch.cat([torch.full_like(ids[:1], PAD), ids])
