"""IDGenRec: the two models, their IDs, and the phases that train them in turn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.phase import Phase
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import KnownItems, NewItems, NewRows, RowsOf, Scorer
from seqloom.core.random import derive_seed
from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.networks import (
    build_network,
    build_text_model,
    load_shape,
    prune_vocabulary,
    save_shape,
)
from seqloom.llm.generation.prefix_tree import PAD, PrefixTree
from seqloom.llm.generation.text_model import TextModel
from seqloom.systems.base import MODEL_FOLDER, Sizes, System, TrainingData
from seqloom.systems.idgenrec.choices import IDChoices
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.id_file import read_ids
from seqloom.systems.idgenrec.ids import IDMaker, Statistics, words_only
from seqloom.systems.idgenrec.item_texts import ItemPrompts, read_texts
from seqloom.systems.idgenrec.language import Language, build_language, tokens_to_keep
from seqloom.systems.idgenrec.phases import GeneratorPhase, RecommenderPhase, TaggingPhase
from seqloom.systems.idgenrec.prompts import PromptBuilder
from seqloom.systems.idgenrec.scorer import BeamScorer, Decoding, ExactScorer

IDS = "ids"
"""The name of the item table and of the state entry that holds it."""


class IDGenRec(System[IDGenRecConfig]):
    """A generator names items by words; a recommender reads a history of names and writes the next.

    Source: IDGenRec (arXiv 2403.19021).
    Differs: training begins with the recommender (a generator cannot learn from one that knows nothing);
        the prompt holds no user ID, so that a bare history is answered and no held-out item can leak
        through one; probabilities are over the tokens of IDs alone, by default among the branches of the
        tree (`likelihood`); a score is a sum of log-probabilities, which the authors' search divides by the
        number of tokens (`length_penalty`). See also the phases, `soft_tokens` and `IDMaker`. The paper's
        form, as far as it goes, is configs/idgenrec/paper.yaml.
    """

    name: ClassVar[str] = "idgenrec"
    config_class: ClassVar[type[IDGenRecConfig]] = IDGenRecConfig
    mixes_datasets: ClassVar[bool] = True
    shards: ClassVar = "trained"
    new_items_by: ClassVar = "words"
    ids: Tensor
    made: Tensor
    generator: TextModel
    recommender: TextModel
    builder: PromptBuilder
    language: Language
    item_prompts: ItemPrompts
    """Of the training catalogue; only while training."""

    def __init__(self, config: IDGenRecConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = config.ids.longest + 1
        empty = torch.full((sizes.num_items + 1, width), PAD)
        self.register_buffer("ids", empty)  # row 0 is nobody's
        self.register_buffer("made", torch.tensor(-1))  # the round that the IDs are of
        self.statistics: Statistics | None = None
        """How the present IDs came about; None where they were loaded."""
        self._texts: list[str] = []
        self._item_ids: list[str] = []
        self._progress: Progress = SILENT
        self._table: Tensor | None = None

    @property
    def max_len(self) -> int:
        """The longest history that a prompt holds."""
        return self.config.max_len

    @property
    def windows(self) -> bool:
        """Whether the recommender learns from all items of a history in one pass."""
        able = isinstance(self.recommender, DecoderOnly) and self.language.templates.open_ended
        if self.config.samples == "windows" and not able:
            raise ConfigError(
                "samples=windows needs a decoder-only recommender and prompts that end with {history}; "
                "take samples=prefixes"
            )
        return able and self.config.samples != "prefixes"

    @property
    def table(self) -> Tensor:
        """The IDs without columns that no ID reaches. Shapes: [N + 1, T] output numbers, row 0 PAD."""
        if self._table is None or self._table.device != self.ids.device:
            width = int((self.ids != PAD).sum(1).max())
            self._table = self.ids[:, : max(1, width)].contiguous()
        return self._table

    def initialise(self, data: TrainingData) -> None:
        """Load or draw the models; the first IDs are made when training begins, on its device."""
        self._read_items(data)
        if self.config.start_from is not None:
            self._take_over(Path(self.config.start_from))
        else:
            self._build(build_language(self.config, self._texts, data.progress))
        self.item_prompts = self.prompts_of(self._texts)

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Tagging where it is wanted, then recommender and generator in turn."""
        train = data.dataset.train
        origins = data.dataset.manifest.options.get("origins")
        users = [o["users"] for o in origins] if origins else [data.dataset.num_users]
        found: list[Phase] = []
        if self.config.generation.tagging_epochs:
            found.append(TaggingPhase(self, self._texts))
        choices = IDChoices(self._texts, self.language.lexicon, self.config.ids)
        for number in range(self.config.rounds):
            if number and self.config.generation.epochs:
                before = number - 1
                found.append(GeneratorPhase(self, train, users, choices, before, data.processes))
            found.append(RecommenderPhase(self, train, users, number, data.processes))
        return found

    def make_ids(self, number: int) -> None:
        """Make the IDs of a round, unless they are there (a resumed run has them in its state)."""
        if int(self.made) >= number:
            return
        if int(self.made) < 0 or self.config.generation.epochs:  # else the generator is as it was
            self.ids[1:] = self._named(number).to(self.ids.device)
        self.made.fill_(number)
        self._table = None

    def rehearse(self) -> float:
        """IDs that are made cheaply, in place of those of all rounds."""
        seconds = 0.0
        if self.config.ids.file is not None:
            self.make_ids(0)
        else:
            maker = self.maker(self.language, self._progress)
            ids, seconds = maker.rehearse(self._texts, self.item_prompts)
            self.ids[1:] = ids.to(self.ids.device)
            self._table = None
        self.made.fill_(self.config.rounds)
        return seconds * (self.config.rounds if self.config.generation.epochs else 1)

    def maker(
        self,
        language: Language,
        progress: Progress = SILENT,
        *,
        taken: Sequence[tuple[int, ...]] = (),
    ) -> IDMaker:
        """What gives IDs with the generator as it is now; `taken` ones are not given again."""
        return IDMaker(
            self.generator.whole(),
            language.lexicon,
            self.config.ids,
            taken=taken,
            progress=progress,
        )

    def texts_of(self, items: pa.Table) -> list[str]:
        """What the generator is given of items, by the template `ids.text`."""
        return read_texts(items, self.config.ids.text)

    def prompts_of(self, texts: Sequence[str]) -> ItemPrompts:
        """What the generator reads of items."""
        return ItemPrompts(
            texts, self.language.prompt, self.language.tokenizer, self.config.ids.max_text_tokens
        )

    def new_ids(
        self, texts: Sequence[str], item_ids: Sequence[str], progress: Progress = SILENT
    ) -> tuple[Tensor, Statistics]:
        """IDs for another catalogue, by the generator as it is, in words of its own texts.

        Shapes: -> [M, longest + 1] output numbers.
        """
        maker = self.maker(self.language.speaking(texts, self.config.ids), progress)
        return maker.make(texts, item_ids, self.prompts_of(texts))

    def over(self, ids: Tensor, recommender: TextModel | None = None) -> BeamScorer | ExactScorer:
        """The recommender as it is, or another one, over a catalogue with these IDs.

        Shapes: ids [M, T] output numbers.
        """
        ids = ids[:, : int((ids != PAD).sum(1).max())].to(self.ids.device)
        table = torch.cat([torch.full_like(ids[:1], PAD), ids])
        return self._scorer(table, recommender or self.recommender)

    def item_tables(self) -> dict[str, Tensor]:
        """See `ExtendsCatalogue`: the textual IDs. Shapes: [N, longest + 1]."""
        return {IDS: self.ids[1:]}

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """See `ExtendsCatalogue`: the generator names new items in the catalogue's words."""

        def rows(new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
            texts = self.texts_of(new.items)
            maker = self.maker(self.language, taken=words_only(tables[IDS]))
            made, _ = maker.make(texts, new.item_ids, self.prompts_of(texts))
            return NewRows({IDS: made.to(self.ids.device)})

        return rows

    def scorer_over(self, tables: Mapping[str, Tensor]) -> Scorer:
        """See `ExtendsCatalogue`."""
        return self.over(tables[IDS])

    def shard(self, device: torch.device) -> None:
        """Spread the layers of both models."""
        self.generator.shard(device)
        self.recommender.shard(device)

    def reopen(self, data: TrainingData) -> None:
        """Read the items' texts again."""
        self._read_items(data)
        self.item_prompts = self.prompts_of(self._texts)

    def named_again(self, data: TrainingData) -> Tensor:
        """The IDs that the generator as it is gives the training catalogue.

        Shapes: -> [N, longest + 1] output numbers.
        """
        self.reopen(data)
        return self._named(max(0, int(self.made)) if self.config.generation.epochs else 0)

    @property
    def ids_are_given(self) -> bool:
        """Whether the present IDs were read from a file."""
        renewed = self.config.generation.epochs and int(self.made) > 0
        return self.config.ids.file is not None and not renewed

    def words(self, ids: Tensor | None = None) -> list[str]:
        """The IDs as words; those of the catalogue if none are given. Shapes: [M, T] output numbers."""
        rows = self.ids[1:] if ids is None else ids
        return [self.language.lexicon.text(row) for row in rows.tolist()]

    def scorer(self) -> Scorer:
        """The recommender over the present IDs."""
        return self._scorer(self.table, self.recommender.whole())

    def finish(self) -> None:
        """Let go of the items' texts. A run without a trained epoch gets its IDs here."""
        self.make_ids(0)
        self._texts, self._item_ids = [], []
        del self.item_prompts

    @property
    def uses_language_model(self) -> bool:
        """It is one."""
        return True

    def write_files(self, folder: Path) -> None:
        """Write tokenizer, words, prompts and the shapes of the two models."""
        self.language.save(folder)
        save_shape(self.generator.network, folder / "generator")
        save_shape(self.recommender.network, folder / "recommender")

    def read_files(self, folder: Path) -> None:
        """Build what `write_files` described; the weights are to be loaded."""
        language = Language.load(folder)
        generator = load_shape(folder / "generator")
        recommender = load_shape(folder / "recommender")
        self._assemble(language, generator, recommender)

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        """As a module does; the IDs may have changed."""
        self._table = None
        return super().load_state_dict(*arguments, **options)

    def starting_recommender(self) -> TextModel:
        """The recommender that training began with: drawn again, or taken again from the run `start_from`.

        Raises:
            ArtefactError: the run `start_from` cannot be read any more.
        """
        if self.config.start_from is not None:
            model = copy.deepcopy(self.recommender)
            state = _part(_weights(Path(self.config.start_from)), "recommender")
            try:
                model.load_state_dict(state)
            except RuntimeError as error:
                raise ArtefactError(
                    f"{self.config.start_from} is no longer the run that this one went on from: {error}"
                ) from None
            return model.eval()
        gpus = [self.ids.device] if self.ids.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):
            torch.manual_seed(derive_seed(self.config.seed, "initialise"))
            _, network = self._networks(self.language.tokenizer)
        outputs = self.language.lexicon.output_tokens
        if self.language.kept is not None:
            prune_vocabulary(network, self.language.kept)
            outputs = torch.arange(len(outputs))
        return build_text_model(network, outputs).to(self.ids.device).eval()

    def _read_items(self, data: TrainingData) -> None:
        self._progress = data.progress
        self._texts = self.texts_of(data.dataset.items)
        self._item_ids = data.dataset.item_ids

    def _named(self, number: int) -> Tensor:
        """IDs of the training items: given ones in the first round, else those of the generator."""
        if number == 0 and self.config.ids.file is not None:
            file = Path(self.config.ids.file)
            return read_ids(file, self._item_ids, self.language.lexicon, self.config.ids.longest)
        maker = self.maker(self.language, self._progress)
        ids, self.statistics = maker.make(self._texts, self._item_ids, self.item_prompts)
        return ids

    def _build(self, language: Language) -> None:
        tokenizer = language.tokenizer
        generator, recommender = self._networks(tokenizer)
        if self.config.prune_vocabulary:
            start = getattr(recommender.config, "decoder_start_token_id", None)
            builder = PromptBuilder(language.templates, tokenizer)
            kept = tokens_to_keep(language, builder, start)
            language = Language(
                tokenizer, language.lexicon, language.templates, language.prompt, kept
            )
            prune_vocabulary(recommender, kept)
        self._assemble(language, generator, recommender)

    def _networks(self, tokenizer: Any) -> tuple[Any, Any]:
        """Generator and recommender, loaded or drawn, in this order."""
        generator = build_network(self.config.generator, tokenizer, self._progress)
        return generator, build_network(self.config.recommender, tokenizer, self._progress)

    def _assemble(self, language: Language, generator: Any, recommender: Any) -> None:
        self.language = language
        self.generator = build_text_model(generator, language.lexicon.output_tokens)
        outputs = language.lexicon.output_tokens
        builder = PromptBuilder(language.templates, language.tokenizer)
        if language.kept is not None:
            builder.translate(language.kept)
            outputs = torch.arange(len(outputs))
        builder.speak(outputs)
        self.builder = builder
        self.recommender = build_text_model(recommender, outputs)

    def _take_over(self, run: Path) -> None:
        """Models, tokenizer and prompts of another run, with words for these items."""
        self.read_files(run / MODEL_FOLDER)
        self.language = self.language.speaking(self._texts, self.config.ids)
        state = _weights(run)
        for part in ("generator", "recommender"):
            getattr(self, part).load_state_dict(_part(state, part))

    def _scorer(self, table: Tensor, recommender: TextModel) -> BeamScorer | ExactScorer:
        tree = PrefixTree.build(table[1:]).to(self.ids.device)
        template = self.config.template
        count = len(self.language.templates.parts)
        if template >= count:
            raise ConfigError(f"template is {template}; there are prompts 0 to {count - 1}")
        config = self.config
        decoding = Decoding(template, config.num_beams, config.likelihood, config.length_penalty)
        beam = BeamScorer(recommender, self.builder, table, tree, decoding)
        return beam.exact_scorer() if self.config.decoding == "exact" else beam


def _weights(run: Path) -> dict[str, Tensor]:
    try:
        return load_file(run / "weights.safetensors")
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{run} holds no weights to start from: {error}") from None


def _part(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The entries of one of the two models."""
    own = f"{part}."
    return {n.removeprefix(own): v for n, v in state.items() if n.startswith(own)}
